//! Codes of dead letters on their way: their relay to a topic, and how many may be made.

use super::Explanation;

pub(super) const CODES: &[Explanation] = &[
    Explanation {
        code: "SL-D301",
        title: "there is no topic for dead letters",
        text: "The brokers do not know the topic in `[dead_letters] topic`, or a partition of it is gone. Sluice does not \
               create topics. The dead_letters stay in sluice.dead_letters and wait; the pipeline itself goes on.",
        hint: "Create the topic, best with as many partitions as the topic that the pipeline reads, or correct its \
                  name; the relay goes on by itself.",
    },
    Explanation {
        code: "SL-D302",
        title: "not allowed to write dead letters",
        text: "The brokers refuse this user to write to the topic in `[dead_letters] topic`, or to write idempotently. The \
               dead_letters stay in sluice.dead_letters and wait; the pipeline itself goes on.",
        hint: "Give the user Describe and Write on the topic (and, before Kafka 2.8, IdempotentWrite on the cluster); \
                  the relay goes on by itself.",
    },
    Explanation {
        code: "SL-D303",
        title: "a dead letter cannot be relayed",
        text: "The topic does not take this dead letter: most often it is larger than the topic's max.message.bytes, which \
               its headers can cause, or it has no key and the topic is compacted; or the name of a header is not \
               UTF-8. It is marked with the reason in sluice.dead_letters.relay_fault and stays there; the others go on.",
        hint: "Raise max.message.bytes of the topic, then let the marked dead letters wait again: UPDATE \
                  sluice.dead_letters SET relay = true, relay_fault = NULL WHERE pipeline = '<name>' AND \
                  relay_fault IS NOT NULL. Or replay or discard them as any other dead_letter.",
    },
    Explanation {
        code: "SL-D304",
        title: "the topic for dead letters cannot be written to",
        text: "The brokers answer with an error that librdkafka does not mend by itself. The dead letters stay in \
               sluice.dead_letters and wait; a new connection is tried every few seconds; the pipeline itself goes on.",
        hint: "The message has Kafka's own error; look at the broker's log at this time.",
    },
    Explanation {
        code: "SL-D310",
        title: "a pipeline is paused because of its dead letters",
        text: "On this host the pipeline has made as many dead letters within a minute as `[dead_letters] \
               max_per_minute` allows. Batches that would make more are not written: their messages stay in Kafka, \
               partitions stay with this host, lag grows. As soon as the oldest of these dead letters is a minute old, as \
               many messages are read again as may be dead-lettered; batches without bad messages go on all the while.",
        hint: "Look at the dead letters (`sluice dlq list`). When the plugin is wrong, put a right one in its place: all \
                  that was rate-limited goes through it at once, with a whole minute's allowance. When the messages are \
                  wrong, stop whoever sends them; the rest trickles into the dead letters by itself. When the limit \
                  is wrong, raise `max_per_minute` and start the host again.",
    },
    Explanation {
        code: "SL-D311",
        title: "a pipeline is paused because of its parked messages",
        text: "As many messages wait in sluice.parked for another attempt as `[retry] max_parked` allows. Nothing more is \
               read until there are fewer: messages stay in Kafka, partitions stay with this host, lag grows. Those that \
               are parked are tried as before.",
        hint: "Find out what they wait for: SELECT code, min(reason), count(*) FROM sluice.parked GROUP BY code. When it is \
                  there, they pass by themselves and the pipeline resumes. When it never comes, they become dead letters \
                  with their last attempt. When the limit is wrong, raise `max_parked` and start the host again.",
    },
];
