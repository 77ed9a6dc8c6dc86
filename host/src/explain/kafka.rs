//! Codes of the source: reading Kafka, claims, the topic's identity.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-K001",
        title: "librdkafka refuses the settings",
        text: "A property in [source] is unknown to librdkafka, has a value it does not take, or contradicts \
               another one. Nothing was started.",
        way_out: "Correct the property named in the message; librdkafka's CONFIGURATION.md lists all of them.",
    },
    Explanation {
        code: "SL-K002",
        title: "no broker answers",
        text: "None of the brokers in [source] brokers could be reached in time, or none answered. A pipeline \
               that is starting gives up; a running one waits, keeps what it has, and goes on by itself.",
        way_out: "Check the addresses, that the brokers run, and that their advertised listeners can be reached \
                  from this host; for TLS and SASL check security.protocol and what belongs to it in \
                  [source] properties.",
    },
    Explanation {
        code: "SL-K010",
        title: "the topic no longer has the stored position",
        text: "The broker says that the next offset of this partition is out of range: retention has deleted the \
               messages there, or the log is shorter than it was. Messages may be lost, so the partition is held \
               and nothing is skipped or repeated silently. Other partitions go on; this one is tried again \
               every few seconds.",
        way_out: "Find out what was lost. To go on elsewhere, set the position by hand, under a new epoch so that \
                  nobody writes under an old claim: UPDATE sluice.positions SET next_offset = <offset>, epoch = \
                  epoch + 1, digest_since = NULL WHERE pipeline = '<name>' AND topic = '<topic>' AND partition = <partition>; the \
                  host goes on by itself. `sluice lag` shows the offsets that the topic has.",
    },
    Explanation {
        code: "SL-K011",
        title: "there is no such topic",
        text: "The brokers do not know the topic or the partition. Sluice does not create topics. A running \
               pipeline holds the partition and tries again every few seconds.",
        way_out: "Create the topic, or correct [source] topic. If it was deleted and will be created again, read \
                  `sluice explain SL-K015`.",
    },
    Explanation {
        code: "SL-K012",
        title: "messages that cannot be read",
        text: "A checksum does not match, or a batch cannot be decompressed. librdkafka cannot say which messages \
               are in it, so the partition is held instead of passing them over; others go on.",
        way_out: "Check the broker's disk and the producer's compression. To pass over the damage, set the position \
                  behind it by hand as described in `sluice explain SL-K010`.",
    },
    Explanation {
        code: "SL-K013",
        title: "not allowed to read",
        text: "The broker refuses this user to describe or read the topic, or to join the group.",
        way_out: "Give the user Describe and Read on the topic and Read on the group.",
    },
    Explanation {
        code: "SL-K014",
        title: "a partition cannot be read",
        text: "librdkafka met an error that it does not mend by itself. The partition is held and tried again every \
               few seconds; others go on.",
        way_out: "The message has Kafka's own error; look at the broker's log at this time.",
    },
    Explanation {
        code: "SL-K015",
        title: "the topic was deleted and created again",
        text: "Positions belong to a topic by its id. The topic of this name has another id now, so its offsets mean \
               other messages. The partition is held: neither are old offsets applied to new messages, nor does \
               it begin anew silently.",
        way_out: "When the new topic is to be read from its beginning, forget the old positions: DELETE FROM \
                  sluice.positions WHERE pipeline = '<name>' AND topic = '<topic>'; the host goes on by itself, \
                  where [source] start says. Rows already written stay.",
    },
    Explanation {
        code: "SL-K016",
        title: "the group refused this host",
        text: "The group coordinator ended the membership for good, for instance because another host uses the same \
               group.instance.id. The pipeline stops.",
        way_out: "Give every host a group.instance.id of its own, or none.",
    },
];
