//! Codes of `simulate` and `demo`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-S001",
        title: "no broker responds the producer",
        text: "None of the brokers answered within ten seconds. Nothing was sent.",
        hint: "Check that the brokers run and that --brokers names an address they advertise to \
                  this machine.",
    },
    Explanation {
        code: "SL-S002",
        title: "the topic to send to is not there",
        text: "The brokers answered, but they know no such topic or partition, or refused to create \
               or delete the topic. Nothing was sent.",
        hint: "Add --create-partitions 12, or create the topic with Kafka's own tools.",
    },
    Explanation {
        code: "SL-S003",
        title: "a message was not acknowledged",
        text: "The brokers refused a message, or did not acknowledge it in time. Sending stopped \
               there; the messages before it are in the topic.",
        hint: "The cause is in the message. Mend it and start again; the same seed sends the same \
                  messages again.",
    },
    Explanation {
        code: "SL-S004",
        title: "librdkafka refuses the producer's settings",
        text: "A property does not exist or has a value that librdkafka does not take.",
        hint: "Compare the property with librdkafka's CONFIGURATION.md.",
    },
    Explanation {
        code: "SL-S005",
        title: "the demo cannot set its stage",
        text: "The embedded broker did not start, or a file in the demo's temporary folder could not be \
               written. Everything that had been started was stopped again.",
        hint: "The cause is in the message. Room on the disk, loopback addresses and the right to \
                  write into the temporary folder (TMPDIR) are needed.",
    },
    Explanation {
        code: "SL-S006",
        title: "the demo's schema is there already",
        text: "The demo makes a schema sluice_demo in a real database and drops it at its end. There is one \
               already, perhaps of a demo that still runs or was killed. It was left as it is.",
        hint: "When it is not needed any more: DROP SCHEMA sluice_demo CASCADE. Or give another \
                  database, or none: then the demo starts a server of its own.",
    },
    Explanation {
        code: "SL-S007",
        title: "the demo cannot look at its database",
        text: "A statement of the demo itself failed. What the pipeline had written was not touched.",
        hint: "The cause is in the message. In a real database, the role must be allowed to create \
                  schemas.",
    },
    Explanation {
        code: "SL-S008",
        title: "the demo's pipeline stands still",
        text: "Messages are waiting, but the pipeline writes nothing any more, or has ended by itself.",
        hint: "The reason is in the log above. Run it again with --log-level debug.",
    },
    Explanation {
        code: "SL-S009",
        title: "the demo's books do not balance",
        text: "What the producer sent and what the tables contain differ; the last screen says where. With \
               the demo's own broker and database this must never happen.",
        hint: "Run it again; when it happens twice, report it with the last screen and the log.",
    },
    Explanation {
        code: "SL-S010",
        title: "the demo's new plugin version does not take over",
        text: "The plugin's file was replaced, but within a minute not all partitions were written by the \
               new version. The old one went on all the time.",
        hint: "The log above says whether it was refused, and why. On a very slow machine the \
                  compilation may take longer than that: run it again, the result is kept.",
    },
];
