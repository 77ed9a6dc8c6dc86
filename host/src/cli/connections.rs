//! Whether the databases of several pipelines take as many connections as these may want.

use crate::fault::Fault;
use crate::settings::Settings;
use crate::sink::postgres::Options;
use crate::sink::postgres::sessions::capacity::{Wanted, shortage};

/// What each database is short of. One that cannot be reached is passed by: that is found out elsewhere. `all` as for
/// [`shortage`].
pub async fn shortages(settings: &[Settings], all: bool) -> Vec<Fault> {
    let mut found = Vec::new();
    for (options, wanted) in databases(settings) {
        match shortage(&options, wanted, all).await {
            Ok(shortage) => found.extend(shortage),
            Err(fault) => tracing::debug!("cannot count connections: {fault}"),
        }
    }
    found
}

/// Each database once, with what the pipelines want of it together.
fn databases(all: &[Settings]) -> Vec<(Options, Wanted)> {
    let mut databases: Vec<(Options, Wanted)> = Vec::new();
    for settings in all {
        let Ok(options) = Options::of(&settings.sink) else { continue };
        let (own, connections_max) = (settings.pipeline.lanes + 1, settings.sink.connections_max);
        match databases.iter_mut().find(|(known, _)| known.is_alike(&options)) {
            Some((_, wanted)) => {
                wanted.own += own;
                wanted.connections_max = wanted.connections_max.min(connections_max);
            }
            None => databases.push((options, Wanted { own, connections_max })),
        }
    }
    databases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, lanes: usize, connections_max: usize) -> Settings {
        let text = format!(
            "[pipeline]\nname = \"p\"\nlanes = {lanes}\n[source]\nbrokers = \"b:1\"\ntopic = \"t\"\n[plugin]\npath = \"p\"\n\
             [sink]\nurl = \"{url}\"\nconnections_max = {connections_max}\ntable = \"t\"\n"
        );
        Settings::parse("p.toml", &text, &|_| None).unwrap()
    }

    #[test]
    fn pipelines_of_one_database_and_user_are_counted_together() {
        let all = [
            settings("postgres://a@db/x", 2, 32),
            settings("postgres://a@db/x", 4, 9),
            settings("postgres://b@db/x", 1, 32),
        ];
        let counted: Vec<_> = databases(&all).into_iter().map(|(_, wanted)| wanted).collect();
        let expected =
            [Wanted { own: 8, connections_max: 9 }, Wanted { own: 2, connections_max: 32 }];
        assert_eq!(counted, expected);
    }
}
