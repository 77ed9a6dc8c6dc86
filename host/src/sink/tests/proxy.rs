//! A proxy between writer and server that cuts the connection around COMMIT.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the COMMIT.
    BeforeCommit,
    /// The server commits; its answer is lost.
    AfterCommit,
}

/// Forwards to `port`; the first `times` COMMITs meet `cut`. Ends with the process.
pub struct Proxy {
    pub port: u16,
    left: Arc<AtomicU32>,
}

impl Proxy {
    pub fn start(port: u16, cut: Cut, times: u32) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let left = Arc::new(AtomicU32::new(times));
        let cuts = left.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let (from_server, to_client) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                let (requests, answers) = (cuts.clone(), cuts.clone());
                std::thread::spawn(move || {
                    carry(client, server, |bytes| cut_request(bytes, cut, &requests));
                });
                std::thread::spawn(move || {
                    carry(from_server, to_client, |bytes| cut_answer(bytes, cut, &answers));
                });
            }
        });
        Self { port: own_port, left }
    }

    pub fn cuts_left(&self) -> u32 {
        self.left.load(Ordering::SeqCst)
    }
}

fn cut_request(bytes: &[u8], cut: Cut, left: &AtomicU32) -> bool {
    cut == Cut::BeforeCommit && holds(bytes, b"COMMIT\0") && take(left)
}

fn cut_answer(bytes: &[u8], cut: Cut, left: &AtomicU32) -> bool {
    // The command tag of COMMIT.
    cut == Cut::AfterCommit && holds(bytes, b"COMMIT\0") && take(left)
}

fn take(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn carry(mut from: TcpStream, mut to: TcpStream, cut: impl Fn(&[u8]) -> bool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if cut(&buffer[..len]) || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
