//! Codes of the part `plugin`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-G001",
        title: "the plugin's file is not a WebAssembly component",
        text: "A plugin is a component: a WebAssembly module wrapped with the types of its imports \
               and exports. The file is something else: a bare module, an archive, half a download. \
               It was not loaded; a version that is running goes on.",
        hint: "Build Rust plugins with `sluice plugin build`; it makes components. For other \
                  languages, let their component tool wrap the module. Check that the path is right \
                  and the file is complete.",
    },
    Explanation {
        code: "SL-G002",
        title: "the plugin's file is too large",
        text: "A component may have 64 MiB. Compiling takes about a second for each MiB, and a swap \
               has to wait for it.",
        hint: "Leave debug information out of the build (`sluice plugin build` does). A plugin \
                  with an interpreter has 12 to 18 MiB; what is above usually is data that belongs \
                  into settings or a table.",
    },
    Explanation {
        code: "SL-G003",
        title: "the plugin imports what no plugin gets",
        text: "Plugins have no files, no network, no clock and no random numbers: they may import \
               `sluice:plugin/log` and nothing else. The component asks for more, by the names in \
               the message. It was not loaded; a version that is running goes on.",
        hint: "Imports that begin with `wasi:` come from the language's standard library: build \
                  for wasm32-unknown-unknown (`sluice plugin build`), or with WASI stubbed \
                  (`--stub-wasi` in Python, `disableFeatures` in JavaScript). Take what needs a \
                  clock from the message's timestamp.",
    },
    Explanation {
        code: "SL-G004",
        title: "the component is not a sluice plugin",
        text: "A plugin exports the interface `sluice:plugin/transform`. This component does not; \
               it was made for another program. A version that is running goes on.",
        hint: "Check that the path names the right file. In Rust, the plugin's type needs the \
                  SDK's export macro.",
    },
    Explanation {
        code: "SL-G005",
        title: "the plugin was built for another version of the contract",
        text: "The contract between host and plugin has a version; this host does not speak the one \
               the plugin was built for. A version that is running goes on.",
        hint: "Build the plugin with the SDK or the `wit` folder of this sluice version, or run \
                  a host of the plugin's version.",
    },
    Explanation {
        code: "SL-G006",
        title: "the plugin's exports do not have the contract's types",
        text: "The component claims this version of the contract, but its functions take or return \
               something else: it was built from a changed copy of `plugin.wit`.",
        hint: "Build it from the unchanged `wit` folder.",
    },
    Explanation {
        code: "SL-G007",
        title: "the plugin cannot be compiled",
        text: "The component is damaged, or uses a WebAssembly proposal that is switched off here: \
               threads, 64-bit memory, garbage collection, exceptions, several memories, relaxed \
               SIMD, async functions.",
        hint: "If the message speaks of a section that is out of bounds, the file is incomplete. \
                  Else build without the named proposal; componentize-qjs, for one, needs `--sync`.",
    },
    Explanation {
        code: "SL-G008",
        title: "the plugin refuses its settings",
        text: "`configure` was called with `settings` from the pipeline's `[plugin]` section, and \
               the plugin said why it cannot work with them.",
        hint: "Correct `settings`; `sluice plugin inspect FILE` shows which ones the plugin takes.",
    },
    Explanation {
        code: "SL-G009",
        title: "the plugin's description contradicts itself",
        text: "`describe` must name each field and output once, with valid JSON Pointers; a field \
               that is passed through must have the kind of its input, and must be nullable where \
               the input is not required. All differences are in the message.",
        hint: "The SDK's derive macros cannot get this wrong; a plugin that describes itself by \
                  hand has to be corrected.",
    },
    Explanation {
        code: "SL-G010",
        title: "the plugin's file cannot be read",
        text: "The path in `[plugin]` does not lead to a readable file. It is relative to the folder \
               in which sluice was started.",
        hint: "Correct the path or the file's permissions; build the plugin if it is not there yet.",
    },
    Explanation {
        code: "SL-G011",
        title: "the plugin trapped",
        text: "The plugin panicked, or did what WebAssembly forbids, such as reading beyond its \
               memory. The message has its panic text if it logged one, and the functions it was \
               in. The message on which it happens becomes a dead letter \
               with code `trap`, and the others of its batch go on.",
        hint: "Correct the plugin and put the new version in place: the pipeline takes it over at \
                  once. The dead letters contain the messages for another try. In `configure` or while it \
                  is instantiated, it is no message's fault, and the version is refused.",
    },
    Explanation {
        code: "SL-G012",
        title: "the plugin took too long",
        text: "One call may take `timeout` (10 s by default). A Rust plugin needs milliseconds for \
               a batch, so this usually is an endless loop; on a machine without free CPU it may \
               be a slow plugin. The message on which it happens becomes a dead letter \
               with code `timeout`, and the others of its batch go on.",
        hint: "Correct the plugin, or raise `timeout`, or lower `max_messages` in `[batch]`.",
    },
    Explanation {
        code: "SL-G013",
        title: "the plugin wants more memory than it may have",
        text: "One instance may have `memory_bytes` (256 MiB by default). The message on which it happens becomes a dead letter \
               with code `memory-limit`, and the others of its batch go on.",
        hint: "Raise `memory_bytes`, or lower `max_messages` or `max_bytes` in `[batch]`; each \
                  lane has an instance of its own. If memory grows from batch to batch, the plugin \
                  keeps what it should forget.",
    },
    Explanation {
        code: "SL-G014",
        title: "the plugin overflowed its stack",
        text: "The plugin called itself too deeply, perhaps on a deeply nested message. The message on which it happens becomes a dead letter \
               with code `stack-overflow`, and the others of its batch go on.",
        hint: "Turn the recursion into a loop or limit its depth.",
    },
    Explanation {
        code: "SL-G015",
        title: "the plugin returned too much",
        text: "The rows of one batch may have 128 MiB and 4,000,000 rows together, fields that are \
               passed through included. The message on which it happens becomes a dead letter \
               with code `output-too-large`, and the others of its batch go on.",
        hint: "Lower `max_messages` or `max_bytes` in `[batch]` if the plugin has a reason to \
                  make so many rows of a message; else correct the plugin.",
    },
    Explanation {
        code: "SL-G016",
        title: "the plugin broke the contract",
        text: "What the plugin returned is not what it described, or contradicts itself: the message \
               names output, column and row. The message on which it happens becomes a dead letter \
               with code `contract-breach`, and the others of its batch go on.",
        hint: "The SDK cannot get this wrong; a plugin that fills columns by hand has to be \
                  corrected.",
    },
    Explanation {
        code: "SL-G017",
        title: "the plugin failed on a message",
        text: "`process` returned an error instead of an outcome; its text is in the message. \
               The message on which it happens becomes a dead letter \
               with code `failed`, and the others of its batch go on.",
        hint: "The text is the plugin author's. A message that cannot be processed should be \
                  rejected rather than fail its batch.",
    },
    Explanation {
        code: "SL-G018",
        title: "the plugin fails on every message",
        text: "A message on which the plugin traps, runs out of time or memory, or breaks the contract becomes a \
               dead letter and the others go on. But the plugin failed on more messages in a row than \
               `poison_limit` in [plugin] allows, so it is the plugin that is broken, and dead-lettering a whole \
               topic would help nobody. Nothing of the batch was written and no offset moved.",
        hint: "The text says how it failed on the last message. Deploy a version that works. Where so many \
                  messages in a row can really be bad, raise `poison_limit`.",
    },
    Explanation {
        code: "SL-G019",
        title: "compiling the plugin takes too much",
        text: "Plugins are compiled in a process of their own, which may take 60 s of processor time and 4 GiB of \
               memory. This one took more, or made the compiler fail. An honest plugin takes less than 10 s; it is \
               a few huge functions, or very many locals, that the compiler has trouble with. While a version of \
               the plugin runs, it goes on.",
        hint: "Build the plugin with optimisation and without generated functions of tens of thousands of lines. \
                  The same file is not compiled again until it changes, or until SIGHUP.",
    },
    Explanation {
        code: "SL-G020",
        title: "no cargo package to build",
        text: "`sluice plugin build` asks cargo for the packages of a folder, and cargo found none \
               or is not installed.",
        hint: "Run it in a cargo package or workspace, or name one with `--path`. Rust is \
                  installed from https://rustup.rs.",
    },
    Explanation {
        code: "SL-G021",
        title: "no such plugin package",
        text: "A package is a plugin when it has `crate-type = [\"cdylib\"]` and depends on \
               sluice-plugin.",
        hint: "Check the package's name; leave it out to build all plugins.",
    },
    Explanation {
        code: "SL-G022",
        title: "the Rust target wasm32-unknown-unknown is missing",
        text: "Rust compiles for WebAssembly only with the target's standard library, and rustup, \
               which fetches it, is not there or failed.",
        hint: "Install it: `rustup target add wasm32-unknown-unknown`, or the package of your \
                  distribution that has it.",
    },
    Explanation {
        code: "SL-G023",
        title: "cargo could not build the plugins",
        text: "Cargo and the compiler have said why, above this message.",
        hint: "Correct what they name. The component linker `wasm-component-ld` is part of the \
                  Rust toolchain from rustup.",
    },
    Explanation {
        code: "SL-G024",
        title: "a component cannot be written",
        text: "Built components are put into `plugins` in cargo's target folder.",
        hint: "Check the folder's permissions and the disk's free space.",
    },
    Explanation {
        code: "SL-G025",
        title: "plugins cannot be compiled on this machine",
        text: "Plugins are compiled in a process of their own, and this process could not be started or did not \
               answer. The text has the reason of the system: no more processes allowed, or no memory.",
        hint: "Raise the limit of processes (`ulimit -u`, `pids.max`) or free memory. The pipeline goes on by \
                  itself then.",
    },
    Explanation {
        code: "SL-G026",
        title: "given up because the pipeline ends",
        text: "The pipeline was told to end while a plugin was compiled, or while the messages were looked for on \
               which it fails. Nothing of the batch was written and no offset moved.",
        hint: "Nothing is to be done: what was given up is done when the pipeline starts again.",
    },
];
