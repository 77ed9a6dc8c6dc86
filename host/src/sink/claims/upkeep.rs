//! Positions that are stored or fenced without being claimed.

use postgres_types::ToSql;
use uuid::Uuid;

use super::{Claims, schema_fault};
use crate::fault::Fault;
use crate::sink::postgres::Session;

const INITIALISE: &str = "\
INSERT INTO sluice.positions (pipeline, topic, topic_id, owner, partition, next_offset, epoch)
SELECT $1, $2, $3::text::uuid, $4, s.partition, s.next_offset, 0
FROM unnest($5::integer[], $6::bigint[]) AS s (partition, next_offset) ORDER BY s.partition
ON CONFLICT (pipeline, topic, partition) DO NOTHING";

const FENCE: &str = "UPDATE sluice.positions SET epoch = epoch + 1 \
    WHERE pipeline = $1 AND topic = $2 AND partition = ANY ($3)";

/// Tables that name the topic's id. Positions first: their locks keep out who still writes under none.
const OF_TOPIC: [&str; 7] = [
    "positions",
    "lineage",
    "parked",
    "retried",
    "dead_letters",
    "discarded_dead_letters",
    "replayed_dead_letters",
];

impl Claims {
    /// Brokers have begun to name the topic's id: what was stored without one belongs to it. `session` is in no
    /// transaction, and is not to be used after an error.
    pub(super) async fn adopt(
        &self,
        session: &Session,
        topic_id: Uuid,
        partitions: &[i32],
    ) -> Result<(), Fault> {
        let translate = |error: tokio_postgres::Error| schema_fault("store the topic's id", &error);
        let (id, none) = (topic_id.to_string(), Uuid::nil().to_string());
        session.begin().await?;
        for table in OF_TOPIC {
            let update = format!(
                "UPDATE sluice.{table} SET topic_id = $3::text::uuid \
                 WHERE pipeline = $1 AND topic = $2 AND topic_id = $5::text::uuid AND partition = ANY ($4)"
            );
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&self.pipeline, &self.topic, &id, &partitions, &none];
            session.execute(&update, &parameters).await.map_err(translate)?;
        }
        session.batch_execute("COMMIT").await.map_err(translate)?;
        let topic = &*self.topic;
        tracing::info!(topic, %topic_id, ?partitions, "brokers report the topic's id now");
        Ok(())
    }

    /// Stores where partitions begin that have no position yet: (partition, offset). Others are left alone.
    pub async fn initialise(&self, topic_id: Uuid, starts: &[(i32, i64)]) -> Result<(), Fault> {
        let doing = format!("store first positions of topic {:?}", self.topic);
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = starts.iter().copied().unzip();
        let topic_id = topic_id.to_string();
        let Self { pipeline, topic, owner, .. } = self;
        let initialise = async |session: &Session| {
            let parameters: [&(dyn ToSql + Sync); 6] =
                [pipeline, topic, &topic_id, owner, &partitions, &offsets];
            let stored = session.execute(INITIALISE, &parameters).await;
            stored.map(drop).map_err(|error| schema_fault(&doing, &error))
        };
        self.errand(&doing, initialise).await
    }

    /// Makes all claims made so far worthless, our own included.
    pub async fn fence(&self, partitions: &[i32]) -> Result<(), Fault> {
        let doing = format!("fence partitions of topic {:?}", self.topic);
        let fence = async |session: &Session| {
            let fenced = session.execute(FENCE, &[&self.pipeline, &self.topic, &partitions]).await;
            fenced.map(drop).map_err(|error| schema_fault(&doing, &error))
        };
        self.errand(&doing, fence).await
    }
}
