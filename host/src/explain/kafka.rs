//! Codes of the source: reading Kafka, claims, the topic's identity.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-K001",
        title: "librdkafka refuses the settings",
        text: "A property in [source] is unknown to librdkafka, has a value it does not take, or contradicts \
               another one. Nothing was started.",
        hint: "Correct the property named in the message; librdkafka's CONFIGURATION.md lists all of them.",
    },
    Explanation {
        code: "SL-K002",
        title: "no broker responds",
        text: "None of the brokers in [source] brokers could be reached in time, or none responded. A pipeline \
               that is starting retries; a running one keeps what it has, and resumes by itself.",
        hint: "Check the addresses, that the brokers run, and that their advertised listeners can be reached \
                  from this host; for TLS and SASL check security.protocol and what belongs to it in \
                  [source] properties.",
    },
    Explanation {
        code: "SL-K010",
        title: "the topic no longer has the stored position",
        text: "The broker says that the next offset of this partition is out of range: retention has deleted the \
               messages there, or the log is shorter than it was. Messages may be lost, so the partition is blocked \
               and nothing is skipped or repeated silently. Other partitions are not affected; this one is retried with \
               exponential backoff of up to a minute.",
        hint: "`sluice resolve FILE --earliest --dry-run --reason TEXT` shows what is lost; without --dry-run the \
                  partition resumes there by itself, and what was skipped is recorded in sluice.gaps. Raise the \
                  topic's retention if the host was away for longer than that.",
    },
    Explanation {
        code: "SL-K022",
        title: "messages that were read are gone from the log",
        text: "The log of this partition was cut before the stored position: a broker took the lead that lacks messages \
               which were read (an unclean leader election), or a broker came back without its last writes. Their rows \
               stay; what producers have sent since may stand at the same offsets and was not read. The partition is \
               blocked and nothing is skipped or repeated silently; others are not affected, and it is retried with \
               exponential backoff of up to a minute. Seen by the leader epoch of the message that was read last, which is stored \
               with the position.",
        hint: "The message names where the log was cut (`broker end offset`, or the offset behind which it was). \
                  `sluice resolve FILE --partition NUMBER --offset THAT --dry-run --reason TEXT` shows how many \
                  offsets are read again from there; without --dry-run the partition resumes. Rows of the messages that are gone are \
                  those which the table had of these offsets before. To prevent it, give the topic \
                  min.insync.replicas = 2 and unclean.leader.election.enable = false, and let producers use acks = all.",
    },
    Explanation {
        code: "SL-K011",
        title: "there is no such topic",
        text: "The brokers do not know the topic or the partition. Sluice does not create topics. It is blocked and tried \
               again with exponential backoff of up to a minute.",
        hint: "Create the topic, or correct [source] topic. If it was deleted and will be created again, read \
                  `sluice explain SL-K015`.",
    },
    Explanation {
        code: "SL-K012",
        title: "messages that cannot be read",
        text: "A checksum does not match, a batch cannot be decompressed, or it is larger than `receive.message.max.bytes` of \
               `[source.properties]`. librdkafka cannot say which messages are in it, so the partition is blocked instead of \
               skipping them; others are not affected.",
        hint: "Leave `receive.message.max.bytes` out: by itself it takes what topics take. Check the broker's disk and the \
                  producer's compression. To skip the damage: `sluice resolve FILE \
                  --partition NUMBER --offset NUMBER --reason TEXT`, with the first offset after it.",
    },
    Explanation {
        code: "SL-K013",
        title: "not allowed to read",
        text: "The broker refuses this user to describe or read the topic, or to join the group. It is blocked and \
               tried again with exponential backoff of up to a minute.",
        hint: "Give the user Describe and Read on the topic and Read on the group; nothing is to be done in Sluice.",
    },
    Explanation {
        code: "SL-K014",
        title: "a partition cannot be read",
        text: "librdkafka met an error that it does not mend by itself. The partition is blocked and tried again with \
               exponential backoff of up to a minute; others are not affected.",
        hint: "The message has Kafka's own error; look at the broker's log at this time.",
    },
    Explanation {
        code: "SL-K015",
        title: "the topic was deleted and created again",
        text: "Positions belong to a topic by its id. The topic of this name has another id now, so its offsets mean \
               other messages. The partition is blocked: neither are old offsets applied to new messages, nor does \
               it begin again silently.",
        hint: "`sluice resolve FILE --earliest --reason TEXT` reads the new topic from its beginning, `--latest` only \
                  what comes from now on; running hosts resume by themselves. Rows already written stay.",
    },
    Explanation {
        code: "SL-K016",
        title: "the group refused this host",
        text: "The group coordinator ended the membership for good, for instance because another host uses the same \
               group.instance.id. The pipeline ends: joining again would expel the other host.",
        hint: "Give every host a group.instance.id of its own, or none, and start this one again.",
    },
    Explanation {
        code: "SL-K017",
        title: "crash loop at the position of a partition",
        text: "Three times in a row the process that owned this partition crashed (killed, out of memory) while its \
               position did not move. Before the third time no other partition in quarantine was read \
               beside it. Most likely a message there ends the process, such as a compressed batch that does not \
               fit into memory. The partition is blocked, whatever is started again; others are not affected.",
        hint: "Look at the messages at this offset with another tool, and at what ended the process (the kernel's \
                  log, the container's exit code). Skip them: `sluice resolve FILE --partition NUMBER --offset \
                  NUMBER --reason TEXT`. Or, when the cause was another one or there is more memory now: `sluice \
                  resolve FILE --partition NUMBER --retry --reason TEXT`.",
    },
    Explanation {
        code: "SL-K018",
        title: "a position cannot be set as asked",
        text: "`sluice resolve` sets positions of partitions that are blocked, to an offset that the topic has. Something \
               about that does not fit, or a partition has moved since it was looked at. Nothing was changed.",
        hint: "`sluice lag FILE` shows positions, offsets and what is blocked. Try again with --dry-run.",
    },
    Explanation {
        code: "SL-K019",
        title: "the group does not take this host as it is",
        text: "The coordinator refuses the membership: another assignor or protocol than the other members have, a \
               session.timeout.ms that the broker does not allow, or a group that is full. The pipeline is blocked and \
               tried again with exponential backoff of up to a minute.",
        hint: "Give all hosts of the group the same partition.assignment.strategy in [source] properties, and a \
                  session.timeout.ms between the broker's group.min.session.timeout.ms and \
                  group.max.session.timeout.ms.",
    },
    Explanation {
        code: "SL-K020",
        title: "brokers refuse the connection",
        text: "A broker was reached, and the TLS handshake or the authentication failed; the message names the cause. \
               `unable to get local issuer certificate` or `self-signed certificate`: the broker's certificate is signed \
               by nobody that we trust. `hostname mismatch`: it is for other names than the broker is asked by. \
               `certificate has expired` or `is not yet valid`: its dates, or this host's clock. `our certificate has \
               expired`, `does not accept our certificate` or `wants a certificate of ours`: the broker checks who we are. \
               `expects TLS` or `may expect plain text`: security.protocol is not what the listener speaks. \
               `Authentication failed`: user or password. It is tried again and again, so that what is put right is \
               enough: certificates and keys in files, and passwords that settings take from files, are read again \
               within seconds, whether the pipeline runs or is blocked. Nothing is lost by it.",
        hint: "In [source] properties: name the authority that signed the brokers' certificates in ssl.ca.location; ask \
                  brokers by a name that is in their certificate, or have it renewed with that name; renew what has \
                  expired, on the broker or in ssl.certificate.location with its key in ssl.key.location; set \
                  security.protocol to what the listener expects; check sasl.username, sasl.password and sasl.mechanisms.",
    },
    Explanation {
        code: "SL-K021",
        title: "brokers are not checked in spite of TLS",
        text: "A warning: a property switches off a check of the brokers' certificates. The connection is encrypted, but \
               whoever is on the way can pose as a broker, read the password and all messages, and send others. \
               The pipeline runs all the same.",
        hint: "Delete the property, and name the authority that signed the brokers' certificates in `ssl.ca.location`.",
    },
];
