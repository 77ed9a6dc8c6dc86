//! Parked messages that are due: taken under a lock, and settled with the rows made of them. Knows no plugin.

use std::sync::Arc;
use std::time::Duration;

use postgres_types::ToSql;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::fault::Fault;
use crate::rows::Rejection;
use crate::settings::{RetryOrder, RetrySettings};
use crate::sink::dead_letters::read::DeadLetter;
use crate::sink::dead_letters::storable;
use crate::sink::plan::Plan;
use crate::sink::postgres::Diagnosis;
use crate::sink::postgres::connection::fault_of_ours;
use crate::sink::postgres::settle::{End, Settler, Statement};
use crate::sink::postgres::{Options, Session};
use crate::sink::{KeyHash, Prepared, Version};

/// Messages of one batch, those that wait behind others included.
const MESSAGES_MAX: i64 = 10_000;
/// Bytes of theirs; they end with the message that passes it. Each is in memory three times: as it came from Postgres, as
/// a message, and in the batch.
const BYTES_MAX: i64 = 32 << 20;
/// Longest time to wait for a session; there will be another round.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Of those that wait behind others, so many are looked at in one go: some 50 ms of Postgres.
const WAITING_MAX: i64 = 20_000;

/// When the next of those that were tried is due; and of the next `$4` that wait behind others, from the one after `$3`
/// on: the last, how many there are, and whether nothing of its key is parked before any of them.
const NEXT: &str = "\
SELECT (
    SELECT extract(epoch FROM min(p.due_at) - clock_timestamp())::float8
    FROM sluice.parked AS p WHERE p.pipeline = $1 AND p.attempts > 0
), max(w.id), count(*), coalesce(bool_or(NOT $2 OR NOT EXISTS (
    SELECT FROM sluice.parked AS e
    WHERE e.pipeline = $1 AND e.topic_id = w.topic_id AND e.partition = w.partition
        AND md5(e.key) = md5(w.key) AND e.key = w.key AND e.\"offset\" < w.\"offset\"
)), false)
FROM (
    SELECT * FROM sluice.parked WHERE pipeline = $1 AND attempts = 0 AND id > $3 ORDER BY id LIMIT $4
) AS w";

const STANDING: &str = "SELECT count(*), count(*) FILTER (WHERE attempts = 0), \
     extract(epoch FROM min(due_at) FILTER (WHERE attempts > 0) - now())::bigint \
     FROM sluice.parked WHERE pipeline = $1";

const COUNT: &str =
    "SELECT count(*) FROM (SELECT FROM sluice.parked WHERE pipeline = $1 LIMIT $2) AS counted";

/// The oldest of what is due and not in other hands, then what waits and need not any more, as far as `NEXT` looks; with
/// `$2` at most the first of each key, and then some of what waits behind it. All of one topic. In the order of the
/// messages, so that a batch that is cut short has the first of each key.
const TAKE: &str = "WITH tried AS MATERIALIZED (
    SELECT p.id, p.topic, p.topic_id, p.partition, p.key, p.\"offset\" FROM sluice.parked AS p
    WHERE p.pipeline = $1 AND p.attempts > 0 AND p.due_at <= clock_timestamp()
        AND (NOT $2 OR p.key IS NULL OR NOT EXISTS (
            SELECT FROM sluice.parked AS e
            WHERE e.pipeline = $1 AND e.topic_id = p.topic_id AND e.partition = p.partition
                AND md5(e.key) = md5(p.key) AND e.key = p.key AND e.\"offset\" < p.\"offset\"
        ))
    ORDER BY p.due_at LIMIT $3 FOR UPDATE OF p SKIP LOCKED
), free AS MATERIALIZED (
    SELECT p.id, p.topic, p.topic_id, p.partition, p.key, p.\"offset\" FROM sluice.parked AS p
    WHERE p.id IN (
        SELECT id FROM sluice.parked WHERE pipeline = $1 AND attempts = 0 AND id > $5 ORDER BY id LIMIT $6
    ) AND (NOT $2 OR NOT EXISTS (
        SELECT FROM sluice.parked AS e
        WHERE e.pipeline = $1 AND e.topic_id = p.topic_id AND e.partition = p.partition
            AND md5(e.key) = md5(p.key) AND e.key = p.key AND e.\"offset\" < p.\"offset\"
    ))
    LIMIT $3 FOR UPDATE OF p SKIP LOCKED
), heads AS (
    SELECT * FROM tried UNION ALL SELECT * FROM free
), chosen AS MATERIALIZED (
    SELECT h.* FROM heads AS h JOIN (SELECT topic, topic_id FROM heads LIMIT 1) AS one USING (topic, topic_id) LIMIT $3
), taken AS (
    SELECT id FROM chosen
    UNION
    SELECT b.id FROM chosen AS h CROSS JOIN LATERAL (
        SELECT b.id FROM sluice.parked AS b
        WHERE $2 AND b.pipeline = $1 AND b.topic_id = h.topic_id AND b.partition = h.partition
            AND md5(b.key) = md5(h.key) AND b.key = h.key AND b.\"offset\" > h.\"offset\"
        ORDER BY b.\"offset\" LIMIT (SELECT $3 / count(*) FROM chosen)
    ) AS b
)
SELECT id, topic, topic_id::text, partition, \"offset\", (extract(epoch FROM \"timestamp\") OPERATOR(pg_catalog.*) 1000000)::bigint,
    key, payload, header_names, header_values, stage, code, reason, digest, attempts, parked_at, parked_at, log_append_time
FROM (
    SELECT *, sum(bytes) OVER (ORDER BY partition, \"offset\") - bytes AS bytes_before
    FROM (
        SELECT *, coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0)
            + coalesce(octet_length(header_names::text), 0) + coalesce(octet_length(header_values::text), 0) AS bytes
        FROM sluice.parked WHERE id IN (SELECT id FROM taken)
    ) AS sized
) AS summed
WHERE bytes_before < $4 ORDER BY partition, \"offset\" LIMIT $3";

/// The same messages once more, after their transaction was rolled back: only if nobody has touched them.
const TAKE_AGAIN: &str = "SELECT p.id FROM sluice.parked AS p \
     JOIN unnest($1::bigint[], $2::integer[]) AS w (id, attempts) ON p.id = w.id AND p.attempts = w.attempts \
     FOR UPDATE OF p SKIP LOCKED";

/// Removes messages that passed and leaves word of which version made their rows.
const PASSED: &str = "WITH passed AS (
    DELETE FROM sluice.parked AS p USING unnest($1::bigint[], $2::integer[]) AS d (id, rows) WHERE p.id = d.id
    RETURNING p.id, p.pipeline, p.topic, p.topic_id, p.partition, p.\"offset\", p.attempts, d.rows
)
INSERT INTO sluice.retried (id, pipeline, topic, topic_id, partition, \"offset\", digest, plugin, version, attempts, rows)
SELECT id, pipeline, topic, topic_id, partition, \"offset\", $3, $4, $5, attempts + 1, rows FROM passed";

const GAVE_UP: &str = "WITH gone AS (
    DELETE FROM sluice.parked AS p USING unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
        AS d (id, stage, code, reason) WHERE p.id = d.id
    RETURNING p.*, d.stage AS last_stage, d.code AS last_code, d.reason AS last_reason
)
INSERT INTO sluice.dead_letters (pipeline, topic, topic_id, relay, partition, \"offset\", \"timestamp\", log_append_time,
    key, payload, header_names, header_values, stage, code, reason, digest, attempts, rejected_at, last_rejected_at)
SELECT pipeline, topic, topic_id, $6, partition, \"offset\", \"timestamp\", log_append_time,
    key, payload, header_names, header_values, last_stage, last_code, last_reason, $5, attempts + 1, parked_at, now()
FROM gone ORDER BY partition, \"offset\"";

const AGAIN: &str = "UPDATE sluice.parked AS p
SET stage = d.stage, code = d.code, reason = d.reason, digest = $6, attempts = p.attempts + 1, delay_ms = d.delay_ms
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[]) AS d (id, stage, code, reason, delay_ms)
WHERE p.id = d.id";

/// Numbers, from 1, of the keys of which something is parked.
const STILL_PARKED: &str = "SELECT w.number FROM \
     unnest($3::integer[], $4::text[]) WITH ORDINALITY AS w (partition, hash, number) WHERE EXISTS ( \
        SELECT FROM sluice.parked AS p \
        WHERE p.pipeline = $1 AND p.topic_id = $2::text::uuid AND p.partition = w.partition AND p.key IS NOT NULL \
            AND md5(p.key) = w.hash \
     )";

/// The next `$5` after `$4`, in the order of the index.
const KEYS: &str = "SELECT md5(key) FROM sluice.parked \
     WHERE pipeline = $1 AND topic_id = $2::text::uuid AND partition = $3 AND key IS NOT NULL AND md5(key) > $4 \
     GROUP BY md5(key) ORDER BY md5(key) LIMIT $5";
/// So many in one go: some 100 ms of Postgres.
const KEYS_MAX: i64 = 50_000;

/// The parked messages of a pipeline.
#[derive(Debug)]
pub struct Due {
    options: Options,
    pipeline: String,
    rule: Arc<RetrySettings>,
    /// True when dead letters are sent to a topic as well.
    relay: bool,
    settler: Settler,
    /// Most messages that are taken at a time.
    messages_max: i64,
    /// Id of the last that waits and was looked at: the next look begins after it.
    looked_at: i64,
}

/// When something is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Time until the next message is due, zero when one is.
    pub wait: Option<Duration>,
    /// True when messages waited behind others that are gone.
    pub behind: bool,
    /// True when not all that wait were looked at yet.
    pub more: bool,
}

/// Messages of a pipeline that wait for another attempt. Their positions have passed them, so no lag counts them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// How many there are.
    pub messages: i64,
    /// Those among them that were not tried yet: they wait behind another one of their key.
    pub behind: i64,
    /// Until the next attempt; negative when it is overdue, none without one.
    pub next_seconds: Option<i64>,
}

impl Standing {
    /// What of `pipeline` is parked now.
    pub async fn read(session: &Session, pipeline: &str) -> Result<Self, Fault> {
        let row = session
            .query_one(STANDING, &[&pipeline])
            .await
            .map_err(|error| fault_of_ours("read what is parked", &error))?;
        Ok(Self { messages: row.get(0), behind: row.get(1), next_seconds: row.get(2) })
    }
}

/// What became of taken messages.
#[derive(Debug, Default)]
pub struct Results {
    /// Ids of those that passed, with the number of their rows.
    pub passed: Vec<(i64, u32)>,
    /// Ids of those that become dead letters, and why.
    pub gave_up: Vec<(i64, Rejection)>,
    /// Ids of those that are tried again after a pause, and why.
    pub again: Vec<(i64, Rejection, Duration)>,
}

impl Due {
    /// Connects when it is needed.
    pub fn new(options: &Options, pipeline: &str, rule: Arc<RetrySettings>, relay: bool) -> Self {
        let options = options.clone().waiting_at_most(TURN_WAIT);
        Self {
            settler: Settler::new(&options),
            options,
            pipeline: pipeline.to_owned(),
            rule,
            relay,
            messages_max: MESSAGES_MAX,
            looked_at: 0,
        }
    }

    fn by_key(&self) -> bool {
        self.rule.order == RetryOrder::Key
    }

    /// What is parked. Of what waits behind others, each call looks at another part.
    pub async fn next(&mut self) -> Result<Next, Fault> {
        let doing = "look for parked messages";
        let by_key = self.by_key();
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&self.pipeline, &by_key, &self.looked_at, &WAITING_MAX];
        let next = async |session: &Session| {
            let row = session.query_one(NEXT, &parameters).await;
            row.map_err(|error| fault_of_ours(doing, &error))
        };
        let row = self.options.errand(doing, next).await?;
        let seconds: Option<f64> = row.get(0);
        let wait = seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        let (last, waiting, behind): (Option<i64>, i64, bool) =
            (row.get(1), row.get(2), row.get(3));
        let more = waiting == WAITING_MAX;
        // What is free is taken from where it was seen.
        if !behind {
            self.looked_at = last.filter(|_| more).unwrap_or(0);
        }
        Ok(Next { wait, behind, more: more && !behind })
    }

    /// How many messages are parked, `max` at most.
    pub async fn count(&self, max: u64) -> Result<u64, Fault> {
        let (doing, max) = ("count parked messages", i64::try_from(max).unwrap_or(i64::MAX));
        let count = async |session: &Session| {
            let row = session.query_one(COUNT, &[&self.pipeline, &max]).await;
            row.map_err(|error| fault_of_ours(doing, &error))
        };
        let row = self.options.errand(doing, count).await?;
        Ok(row.get::<_, i64>(0) as u64)
    }

    /// Fewer messages at a time from now on: a limit of the server has ended a batch of them.
    pub fn take_fewer(&mut self) {
        self.messages_max = (self.messages_max / 2).max(1);
    }

    /// Takes messages that are due, in their order.
    pub async fn take(&mut self, plan: &Plan) -> Result<Vec<DeadLetter>, Fault> {
        let by_key = self.by_key();
        let parameters: &[&(dyn ToSql + Sync)] = &[
            &self.pipeline,
            &by_key,
            &self.messages_max,
            &BYTES_MAX,
            &self.looked_at,
            &WAITING_MAX,
        ];
        let select = Statement { doing: "take parked messages", text: TAKE, parameters };
        let rows = self.settler.take(plan, select).await?;
        rows.iter().map(DeadLetter::from_row).collect()
    }

    /// Takes messages that were taken before, all or none.
    pub async fn take_again(
        &mut self,
        plan: &Plan,
        messages: &[DeadLetter],
    ) -> Result<bool, Fault> {
        let ids: Vec<i64> = messages.iter().map(|message| message.id).collect();
        let attempts: Vec<i32> = messages.iter().map(|message| message.attempts).collect();
        let select = Statement {
            doing: "take parked messages",
            text: TAKE_AGAIN,
            parameters: &[&ids, &attempts],
        };
        Ok(self.settler.take(plan, select).await?.len() == messages.len())
    }

    /// Does `work` on this thread; the messages stay taken.
    pub fn keep_open<T>(&self, runtime: &Handle, work: impl FnOnce() -> T) -> T {
        self.settler.keep_open(runtime, work)
    }

    /// Releases what was taken, and the session.
    pub fn release(&mut self) {
        self.settler = Settler::new(&self.options);
    }

    /// Closes the session: nothing is due for a while.
    pub fn rest(&mut self) {
        self.settler.rest();
    }

    /// Finds messages with rows that are refused, by constraints that have refused others. They stay taken.
    pub async fn ask(&mut self, plan: &Plan, prepared: &Prepared) -> Result<Vec<Rejection>, Fault> {
        self.settler.ask(plan, prepared).await
    }

    /// Finds out why [`Due::settle`] was rejected. Nothing is taken then.
    pub(crate) async fn diagnose(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
    ) -> Result<Diagnosis, Fault> {
        self.settler.diagnose(plan, prepared).await
    }

    /// Writes the rows of taken messages and moves the messages where they belong. Returns how many rows triggers have
    /// dropped, by table.
    ///
    /// # Errors
    /// As `Settler::settle`.
    ///
    /// # Panics
    /// When no messages were taken.
    pub async fn settle(
        &mut self,
        plan: &Plan,
        prepared: &Prepared,
        results: &Results,
        version: &Version,
    ) -> Result<Vec<u64>, Fault> {
        let Results { passed, gave_up, again } = results;
        let Version { digest, plugin, version } = version;
        let (passed_ids, rows): (Vec<i64>, Vec<i32>) =
            passed.iter().map(|(id, rows)| (*id, *rows as i32)).unzip();
        let gave_up_ids: Vec<i64> = gave_up.iter().map(|(id, _)| *id).collect();
        let gave_up_why = Why::of(gave_up.iter().map(|(_, rejection)| rejection));
        let again_ids: Vec<i64> = again.iter().map(|(id, ..)| *id).collect();
        let again_why = Why::of(again.iter().map(|(_, rejection, _)| rejection));
        let delays: Vec<i64> = again.iter().map(|(.., pause)| pause.as_millis() as i64).collect();
        let passed = Statement {
            doing: "remove parked messages that passed",
            text: PASSED,
            parameters: &[&passed_ids, &rows, digest, plugin, version],
        };
        let Why { stages, codes, reasons } = &gave_up_why;
        let gave_up = Statement {
            doing: "make dead letters of parked messages",
            text: GAVE_UP,
            parameters: &[&gave_up_ids, stages, codes, reasons, digest, &self.relay],
        };
        let Why { stages, codes, reasons } = &again_why;
        let again = Statement {
            doing: "park messages again",
            text: AGAIN,
            parameters: &[&again_ids, stages, codes, reasons, &delays, digest],
        };
        let changes = [
            (passed, passed_ids.len() as u64),
            (gave_up, gave_up_ids.len() as u64),
            (again, again_ids.len() as u64),
        ];
        self.settler.settle(plan, prepared, &changes, End::Commit).await
    }

    /// Those of `keys` of which no message is parked any more.
    pub async fn free(
        &self,
        topic_id: Uuid,
        keys: Vec<(i32, KeyHash)>,
    ) -> Result<Vec<(i32, KeyHash)>, Fault> {
        let (partitions, hashes): (Vec<i32>, Vec<String>) =
            keys.iter().map(|&(partition, key)| (partition, key.for_postgres())).unzip();
        let (doing, topic_id) = ("look for parked keys", topic_id.to_string());
        let still = async |session: &Session| {
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&self.pipeline, &topic_id, &partitions, &hashes];
            let rows = session.query(STILL_PARKED, &parameters).await;
            rows.map_err(|error| fault_of_ours(doing, &error))
        };
        let rows = self.options.errand(doing, still).await?;
        let mut keys: Vec<_> = keys.into_iter().map(Some).collect();
        for row in rows {
            keys[row.get::<_, i64>(0) as usize - 1] = None;
        }
        Ok(keys.into_iter().flatten().collect())
    }
}

/// Rejections in columns.
struct Why {
    stages: Vec<String>,
    codes: Vec<String>,
    reasons: Vec<String>,
}

impl Why {
    fn of<'a>(rejections: impl Iterator<Item = &'a Rejection> + Clone) -> Self {
        Self {
            stages: rejections.clone().map(|it| it.stage.name().to_owned()).collect(),
            codes: rejections.clone().map(|it| storable(&it.code)).collect(),
            reasons: rejections.map(|it| storable(&it.reason)).collect(),
        }
    }
}

/// Keys of the messages that are parked in `partition`. With millions of them it takes seconds, in many short questions.
pub async fn parked_keys(
    options: &Options,
    pipeline: &str,
    topic_id: Uuid,
    partition: i32,
) -> Result<Vec<KeyHash>, Fault> {
    let (doing, topic_id) = ("read the keys of parked messages", topic_id.to_string());
    let (mut keys, mut last) = (Vec::new(), String::new());
    loop {
        let some = async |session: &Session| {
            let parameters: [&(dyn ToSql + Sync); 5] =
                [&pipeline, &topic_id, &partition, &last, &KEYS_MAX];
            let rows = session.query(KEYS, &parameters).await;
            rows.map_err(|error| fault_of_ours(doing, &error))
        };
        let rows = options.errand(doing, some).await?;
        let hash = |row: &Row| row.get::<_, String>(0);
        keys.extend(rows.iter().filter_map(|row| KeyHash::from_postgres(&hash(row))));
        if (rows.len() as i64) < KEYS_MAX {
            return Ok(keys);
        }
        last = rows.last().map(hash).unwrap_or_default();
    }
}
