//! Codes of `simulate` and `demo`.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-S001",
        title: "no broker answers the producer",
        text: "None of the brokers answered within ten seconds. Nothing was sent.",
        way_out: "Check that the brokers run and that --brokers names an address they advertise to \
                  this machine.",
    },
    Explanation {
        code: "SL-S002",
        title: "the topic to send to is not there",
        text: "The brokers answered, but they know no such topic or partition, or refused to create \
               or delete the topic. Nothing was sent.",
        way_out: "Add --create-partitions 12, or create the topic with Kafka's own tools.",
    },
    Explanation {
        code: "SL-S003",
        title: "a message was not acknowledged",
        text: "The brokers refused a message, or did not acknowledge it in time. Sending stopped \
               there; the messages before it are in the topic.",
        way_out: "The cause is in the message. Mend it and start again; the same seed sends the same \
                  messages again.",
    },
    Explanation {
        code: "SL-S004",
        title: "librdkafka refuses the producer's settings",
        text: "A property does not exist or has a value that librdkafka does not take.",
        way_out: "Compare the property with librdkafka's CONFIGURATION.md.",
    },
];
