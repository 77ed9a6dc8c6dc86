//! An address that takes connections and says nothing, as a load balancer does whose server is gone.

use super::*;

use sluice_tests::proxy::Proxy;

#[test]
fn a_server_that_never_answers_is_given_up() -> Result<()> {
    let scene = Scene::new("hang", 6, Readings::TABLE)?;
    let proxy = Proxy::start(scene.database.port()?)?;
    let mut pipeline = scene.pipeline()?;
    pipeline.url = proxy.url(scene.database.url(), scene.database.port()?);
    let work = Work::begin_with(scene, &pipeline)?;
    let vigil = work.vigil()?;
    proxy.hang(true);
    work.direct.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sluice/hang/%'")?;
    until_true("every lane waits for an answer", SOON, || Ok(proxy.hanging() >= LANES))?;
    proxy.hang(false);
    work.resumes_within(2 * RESUME_MAX)?;
    vigil.end(&work.host, LANES)?;
    work.end()
}
