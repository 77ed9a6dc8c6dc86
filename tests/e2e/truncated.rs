//! Logs that are cut: a broker takes the lead that lacks messages which were read, and has others at their offsets since.

use anyhow::{Context, Result};
use sluice_tests::host::Host;
use sluice_tests::kafka::{Cluster, Topic};
use sluice_tests::load::{Load, Mix};
use sluice_tests::operator;
use sluice_tests::scene::Scene;
use sluice_tests::wait::{SOON, until_true};

const GOOD: Mix = Mix { bad_per_mille: 0, long_per_mille: 10 };

struct Cut {
    cluster: Cluster,
    scene: Scene,
    load: Load,
    sent: i64,
}

impl Cut {
    fn begin(name: &str) -> Result<Self> {
        let (cluster, scene) = Scene::on_cluster_with(name, |cluster| {
            let topic = Topic::create_on(&cluster.address(), name, 1, 2)?;
            topic.set_all(&[
                ("min.insync.replicas", "1"),
                ("unclean.leader.election.enable", "true"),
            ])?;
            Ok(topic)
        })?;
        cluster.wait_until_whole()?;
        let load = Load::new(&scene.topic, GOOD)?;
        Ok(Self { cluster, scene, load, sent: 0 })
    }

    fn send(&mut self, count: usize) -> Result<()> {
        self.load.send(count)?;
        self.sent += i64::try_from(count)?;
        Ok(())
    }

    /// One broker takes `lost` messages that the other does not have, and dies when they are read; the other one leads,
    /// takes `sent` messages at their offsets and behind, and the first becomes a copy of it.
    fn lose(
        &mut self,
        lost: usize,
        sent: usize,
        read: impl FnOnce(&Scene) -> Result<()>,
    ) -> Result<()> {
        let [leader, other] = self.cluster.copies(&self.scene.topic)?[..] else {
            anyhow::bail!("not two copies");
        };
        self.cluster.kill(other)?;
        self.wait_for_copies(&[leader])?;
        self.send(lost)?;
        read(&self.scene)?;
        self.cluster.kill(leader)?;
        self.cluster.start_these(&[other])?;
        self.wait_for_copies(&[other])?;
        self.send(sent)?;
        self.cluster.start_missing()?;
        self.cluster.wait_until_whole()
    }

    fn wait_for_copies(&self, copies: &[usize]) -> Result<()> {
        let Self { cluster, scene, .. } = self;
        until_true("the leader is another one", 3 * SOON, || {
            Ok(cluster.copies(&scene.topic).is_ok_and(|it| it == copies))
        })
    }

    /// Where the partition is blocked, until a person says that it is read from `offset`.
    fn blocked_until_resolved(&self, host: &Host, position: i64, offset: i64) -> Result<()> {
        let blocked = host.wait_for("partition blocked", 3 * SOON)?;
        assert_eq!(blocked.text("code").as_deref(), Some("SL-K022"), "{}", blocked.line);
        assert!(blocked.message.contains(&format!("offset is {offset} ")), "{}", blocked.line);
        assert_eq!(self.scene.positions(&self.scene.name)?, [Some(position)]);
        let file = self.scene.pipeline()?.write(&self.scene.folder)?;
        let offset = offset.to_string();
        let words = ["resolve", "--partition", "0", "--offset", &offset, "--reason", "lost"];
        let output = operator::call(&words, &file)?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        host.wait_for("partition resumed", SOON)?;
        self.scene.wait_until_drained()
    }

    /// Every message became one row, those that brokers have lost as well.
    fn check(&self) -> Result<()> {
        let sql = "SELECT concat_ws(' ', count(*), count(DISTINCT seq), min(seq), max(seq)) FROM readings";
        let rows = self.scene.database.text(sql)?.context("no rows")?;
        assert_eq!(rows, format!("{sent} {sent} 0 {}", self.sent - 1, sent = self.sent));
        Ok(())
    }
}

#[test]
fn messages_in_the_place_of_those_that_were_read_are_not_skipped() -> Result<()> {
    let mut cut = Cut::begin("truncated")?;
    let pipeline = cut.scene.pipeline()?;
    let host = cut.scene.start("first", &pipeline)?;
    cut.send(100)?;
    // Nobody reads when the log is cut: only what is stored tells that it was.
    cut.lose(50, 80, |scene| {
        scene.wait_until_drained()?;
        host.drain().map(drop)
    })?;
    let host = cut.scene.start("second", &pipeline)?;
    cut.blocked_until_resolved(&host, 150, 100)?;
    cut.check()?;
    // The host that reads sees it by itself, with nothing read since it began.
    host.drain()?;
    let host = cut.scene.start("third", &pipeline)?;
    cut.lose(20, 30, Scene::wait_until_drained)?;
    cut.blocked_until_resolved(&host, 200, 180)?;
    cut.check()?;
    host.drain().map(drop)
}
