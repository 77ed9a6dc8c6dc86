//! Codes of the part `settings`: the settings file and the command line.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-C001",
        title: "a settings file cannot be read",
        text: "The file named on the command line is missing, is not UTF-8, or may not be read by this user. \
               Nothing was started.",
        hint: "Check the path (it is relative to the folder the command was started in) and its permissions.",
    },
    Explanation {
        code: "SL-C002",
        title: "a settings file is not TOML",
        text: "The file cannot be parsed. The caret stands where parsing failed, which may be behind the slip, \
               for example behind a quote that was not closed. Nothing was started.",
        hint: "Correct the line. Strings need quotes; a key may be given once.",
    },
    Explanation {
        code: "SL-C003",
        title: "a settings file has an unknown key or section",
        text: "Keys that mean nothing are refused, because a mistyped key would otherwise leave its default in \
               force unnoticed. Nothing was started.",
        hint: "Use the near match or one of the known keys that the message names, or delete the line.",
    },
    Explanation {
        code: "SL-C004",
        title: "a settings file lacks a key or section",
        text: "Something without a sensible default is missing. Nothing was started.",
        hint: "Add it as the message shows.",
    },
    Explanation {
        code: "SL-C005",
        title: "a value has the wrong type",
        text: "For example a number where a string is wanted. Values are not guessed at. Nothing was started.",
        hint: "Write the value as the message says. Where a number comes from the environment, write it as a \
                  string: `lanes = \"${LANES}\"`.",
    },
    Explanation {
        code: "SL-C006",
        title: "a value is empty, out of range or not in the right form",
        text: "The value has the right type and cannot be used. Nothing was started.",
        hint: "Keep to the range or the form that the message names. Sizes are written `\"32MiB\"`, times `\"10s\"`.",
    },
    Explanation {
        code: "SL-C007",
        title: "a value is none of the words that are allowed",
        text: "The key takes one of a few words. Nothing was started.",
        hint: "Use the near match or one of the words that the message names.",
    },
    Explanation {
        code: "SL-C008",
        title: "a variable cannot be filled in",
        text: "`${NAME}` inside a string is replaced by the environment variable of that name, after the file was \
               parsed, and `${file:/path}` by what that file contains; likewise in `--url`, `--database` and `--property`. The variable is not set and no default is given, or the reference is malformed. Nothing \
               was started.",
        hint: "Set the variable in the environment of this process, or write `${NAME:-default}`. For the \
                  characters themselves write `$${`.",
    },
    Explanation {
        code: "SL-C009",
        title: "a name has characters that are not allowed",
        text: "Names of pipelines and topics consist of ASCII letters, digits, `-`, `_` and `.`; a table is written \
               `table` or `schema.table`. A part with dots, quotes or blanks at its ends is written as in SQL, in double \
               quotes with those inside doubled: `table = 'app.\"My.Table\"'`. Without quotes capitals stay what they are. \
               Nothing was started.",
        hint: "Correct the name.",
    },
    Explanation {
        code: "SL-C010",
        title: "a property of librdkafka is not yours to set",
        text: "Some properties would break a promise: they could skip messages, read uncommitted ones, or move \
               offsets without the rows. Some load native code into this process or run a command: whoever may write a \
               settings file would own all pipelines of the host. Others have a key of their own. Nothing was started.",
        hint: "Delete the property, or use the key that the message names.",
    },
    Explanation {
        code: "SL-C011",
        title: "librdkafka refuses a property",
        text: "The property is unknown to the librdkafka in this program, or its value is not one of those it \
               takes. What librdkafka says is repeated, unless it could give a secret away. Nothing was started.",
        hint: "Look the property up in librdkafka's CONFIGURATION.md. GSSAPI (Kerberos) is not built in.",
    },
    Explanation {
        code: "SL-C012",
        title: "two settings do not go together",
        text: "One of the settings would have no effect beside the other: `key` without `upsert` or `ignore`, \
               `newer_than` without `upsert`, `table` beside `[sink.tables]`. Nothing was started.",
        hint: "Keep one of them, as the message says.",
    },
    Explanation {
        code: "SL-C013",
        title: "two settings files name the same pipeline",
        text: "A pipeline's name is the key of its positions in Postgres; two of one name would take each other's \
               partitions away. Nothing was started.",
        hint: "Give each file its own `name` in [pipeline].",
    },
    Explanation {
        code: "SL-C014",
        title: "`url` is not the address of a Postgres database",
        text: "The address is neither a URL that begins with `postgres://` nor libpq's `key=value` form. It is not \
               repeated here, because it may contain a password. Nothing was started.",
        hint: "Write `postgres://user:password@host:5432/database`, best as a variable: `url = \"${DATABASE_URL}\"`.",
    },
    Explanation {
        code: "SL-C020",
        title: "there is no such code",
        text: "`sluice explain` was asked for a code that this version does not know.",
        hint: "`sluice explain` without a code lists all of them.",
    },
];
