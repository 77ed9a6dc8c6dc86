//! The one table from what a broker or librdkafka says to what is done about it.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::{Fault, Remedy};

/// librdkafka refuses the settings.
pub const SETTINGS: &str = "SL-K001";
/// No broker answers, or the cluster is busy with itself.
pub const AWAY: &str = "SL-K002";
/// The topic no longer has the position.
pub const POSITION: &str = "SL-K010";
/// No such topic or partition.
pub const UNKNOWN_TOPIC: &str = "SL-K011";
/// Messages that cannot be read.
pub const UNREADABLE: &str = "SL-K012";
/// The topic or the group, for which the user is not authorized.
pub const NOT_AUTHORIZED: &str = "SL-K013";
/// Anything else a broker may say.
pub const UNEXPECTED: &str = "SL-K014";
/// The topic was deleted and created again.
pub const CREATED_AGAIN: &str = "SL-K015";
/// The group ended the membership for good.
pub const EXPELLED: &str = "SL-K016";
/// A crash loop at the position of a partition.
pub const DEADLY: &str = "SL-K017";
/// What `sluice resolve` was told does not fit the partitions.
pub const UNDECIDABLE: &str = "SL-K018";
/// The group does not take this host as it is.
pub const NOT_ADMITTED: &str = "SL-K019";
/// Brokers are there and refuse the connection: TLS or authentication.
pub const LOGIN: &str = "SL-K020";
/// The log was cut before the position.
pub const TRUNCATED: &str = "SL-K022";

/// What each error means. Those that are not listed block the partition, or the pipeline, as [`UNEXPECTED`].
pub(super) const TABLE: &[(&str, Remedy, &[Code])] = &[
    // Outages, elections and rebalances: librdkafka mends them by itself.
    (
        AWAY,
        Remedy::Retry,
        &[
            Code::NoError,
            Code::PartitionEOF,
            Code::AllBrokersDown,
            Code::AssignmentLost,
            Code::BrokerDestroy,
            Code::BrokerNotAvailable,
            Code::BrokerTransportFailure,
            Code::CoordinatorLoadInProgress,
            Code::CoordinatorNotAvailable,
            Code::DestroyBroker,
            Code::EligibleLeadersNotAvailable,
            Code::FencedLeaderEpoch,
            Code::FencedMemberEpoch,
            Code::FetchSessionIdNotFound,
            Code::IllegalGeneration,
            Code::InProgress,
            Code::InvalidFetchSessionEpoch,
            Code::KafkaStorageError,
            Code::LeaderNotAvailable,
            Code::MemberIdRequired,
            Code::NetworkException,
            Code::NodeUpdate,
            Code::NotCoordinator,
            Code::NotLeaderForPartition,
            Code::OffsetNotAvailable,
            Code::OperationTimedOut,
            Code::Outdated,
            Code::PollExceeded,
            Code::PreferredLeaderNotAvailable,
            Code::RebalanceInProgress,
            Code::RebootstrapRequired,
            Code::ReplicaNotAvailable,
            Code::RequestTimedOut,
            Code::Resolve,
            Code::Retry,
            Code::StaleMemberEpoch,
            Code::ThrottlingQuotaExceeded,
            Code::TimedOutQueue,
            Code::UnknownBroker,
            Code::UnknownLeaderEpoch,
            Code::UnknownMemberId,
            Code::UnstableOffsetCommit,
            Code::WaitCache,
            Code::WaitingForCoordinator,
        ],
    ),
    (POSITION, Remedy::Block, &[Code::AutoOffsetReset, Code::OffsetOutOfRange]),
    (TRUNCATED, Remedy::Block, &[Code::LogTruncation]),
    (
        UNKNOWN_TOPIC,
        Remedy::Block,
        &[
            Code::UnknownTopicOrPartition,
            Code::UnknownTopic,
            Code::UnknownPartition,
            Code::UnknownTopicId,
        ],
    ),
    (
        UNREADABLE,
        Remedy::Block,
        &[
            Code::BadMessage,
            Code::InvalidMessage,
            Code::InvalidMessageSize,
            Code::InvalidRecord,
            Code::BadCompression,
            Code::UnsupportedCompressionType,
        ],
    ),
    (
        NOT_AUTHORIZED,
        Remedy::Block,
        &[
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
        ],
    ),
    // A password may be changed and a certificate renewed while we wait, and a handshake may be interrupted.
    (
        LOGIN,
        Remedy::Retry,
        &[
            Code::Authentication,
            Code::SaslAuthenticationFailed,
            Code::UnsupportedSASLMechanism,
            Code::IllegalSASLState,
            Code::SSL,
        ],
    ),
    (EXPELLED, Remedy::Exit, &[Code::Fatal, Code::Fenced, Code::FencedInstanceId]),
    (
        NOT_ADMITTED,
        Remedy::Block,
        &[
            Code::InconsistentGroupProtocol,
            Code::InvalidSessionTimeout,
            Code::InvalidGroupId,
            Code::GroupMaxSizeReached,
            Code::UnreleasedInstanceId,
            Code::UnsupportedAssignor,
        ],
    ),
];

/// Code and remedy for an error of a broker or of librdkafka.
pub fn remedy(error: Code) -> (&'static str, Remedy) {
    let found = TABLE.iter().find(|(_, _, errors)| errors.contains(&error));
    found.map_or((UNEXPECTED, Remedy::Block), |&(code, remedy, _)| (code, remedy))
}

/// True when a broker has no message at the offset that was asked for.
pub fn is_out_of_range(error: Code) -> bool {
    remedy(error).0 == POSITION
}

/// What a broker or librdkafka said while `doing` something, with its remedy.
pub fn fault(doing: &str, code: Code, text: &str) -> Fault {
    let (sluice_code, remedy) = remedy(code);
    Fault::new(sluice_code, remedy, format!("{doing}: {text} ({code:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(codes: &[Code], code: &str, expected: Remedy) {
        for broker in codes {
            assert_eq!(remedy(*broker), (code, expected), "{broker:?}");
        }
    }

    #[test]
    fn outages_elections_and_rebalances_are_waited_for() {
        check(
            &[Code::AllBrokersDown, Code::NotLeaderForPartition, Code::Resolve],
            AWAY,
            Remedy::Retry,
        );
        check(&[Code::RebalanceInProgress, Code::NotCoordinator], AWAY, Remedy::Retry);
    }

    #[test]
    fn nothing_is_skipped_where_a_position_or_a_message_is_lost() {
        check(&[Code::OffsetOutOfRange, Code::AutoOffsetReset], POSITION, Remedy::Block);
        check(&[Code::LogTruncation], TRUNCATED, Remedy::Block);
        check(&[Code::BadMessage, Code::BadCompression], UNREADABLE, Remedy::Block);
        check(&[Code::UnknownTopicOrPartition], UNKNOWN_TOPIC, Remedy::Block);
    }

    #[test]
    fn a_refused_login_is_tried_again() {
        check(&[Code::Authentication, Code::SSL], LOGIN, Remedy::Retry);
    }

    #[test]
    fn what_only_a_person_can_mend_stops() {
        check(
            &[Code::TopicAuthorizationFailed, Code::GroupAuthorizationFailed],
            NOT_AUTHORIZED,
            Remedy::Block,
        );
        check(&[Code::FencedInstanceId], EXPELLED, Remedy::Exit);
        check(&[Code::InconsistentGroupProtocol], NOT_ADMITTED, Remedy::Block);
        check(&[Code::PolicyViolation, Code::Unknown], UNEXPECTED, Remedy::Block);
    }
}
