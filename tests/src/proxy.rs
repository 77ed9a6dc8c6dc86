//! A TCP proxy in front of Postgres that understands as much of its protocol as it takes to lose the reply to
//! one COMMIT, the COMMIT itself, or everything behind a certain byte of a transaction, on command. Knows nothing
//! of Sluice.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Result;

pub use bytes::{ByteCut, Way};

use frames::{Commits, Frame, Frames};

mod bytes;
mod frames;

/// What happens to the next COMMIT that comes by; then it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees it, and the connection is cut.
    BeforeCommit,
    /// The server commits, and the connection is cut before its reply passes.
    AfterCommit,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<Cut>,
    /// Chance of each COMMIT, of a thousand, to be cut in one of the two ways.
    random_per_mille: u32,
    black_hole: bool,
    /// Connections that were accepted and are kept open, with nothing behind them.
    hung: Option<Vec<TcpStream>>,
    byte_cut: Option<ByteCut>,
    server_port: u16,
    connections: u64,
    before: usize,
    after: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A running proxy. Its threads end with their connections or with the process.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Listens on a free port and forwards to `server_port` on this machine.
    pub fn start(server_port: u16) -> Result<Self> {
        Self::start_with(server_port, connect)
    }

    /// The same for sessions that are encrypted: it can be redirected, and hang, but cuts and black holes are for those
    /// whose protocol can be read.
    pub fn start_unread(server_port: u16) -> Result<Self> {
        Self::start_with(server_port, |_, client, server| connect_unread(&client, &server))
    }

    fn start_with(
        server_port: u16,
        connect: fn(&Arc<Shared>, TcpStream, TcpStream),
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        shared.lock().server_port = server_port;
        let proxy = Self { address, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(client) = shared.keep_if_hanging(client) else { continue };
                let server_port = shared.lock().server_port;
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server_port)) else {
                    continue;
                };
                connect(&shared, client, server);
            }
        });
        Ok(proxy)
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `url` with this proxy in the place of the server on `server_port`, unencrypted.
    pub fn url(&self, url: &str, server_port: u16) -> String {
        let url = url.replace(&format!(":{server_port}/"), &format!(":{}/", self.address.port()));
        format!("{url}?sslmode=disable")
    }

    /// Cuts at the next COMMIT.
    pub fn arm(&self, cut: Cut) {
        self.shared.lock().armed = Some(cut);
    }

    /// True until the cut asked for has happened.
    pub fn armed(&self) -> bool {
        self.shared.lock().armed.is_some()
    }

    /// Cuts `per_mille` of all COMMITs from now on, half of them before and half after.
    pub fn cut_at_random(&self, per_mille: u32) {
        self.shared.lock().random_per_mille = per_mille;
    }

    /// While true, nothing passes in either direction, and connections stay open.
    pub fn black_hole(&self, on: bool) {
        self.shared.lock().black_hole = on;
        self.shared.changed.notify_all();
    }

    /// Forwards new connections to `server_port`; those that are there stay with their server.
    pub fn redirect(&self, server_port: u16) {
        self.shared.lock().server_port = server_port;
    }

    /// While true, new connections are accepted and never answered, also when it is false again; those that were
    /// there before stay as they are.
    pub fn hang(&self, on: bool) {
        let mut state = self.shared.lock();
        if on {
            state.hung.get_or_insert_default();
        } else {
            // Not closed: whoever waits must give up by himself.
            std::mem::forget(state.hung.take());
        }
    }

    /// Connections that were accepted and never answered.
    pub fn hanging(&self) -> usize {
        self.shared.lock().hung.as_ref().map_or(0, Vec::len)
    }

    /// Cuts the connection of the next transaction behind its first `bytes` bytes on their `way`.
    pub fn cut_behind(&self, bytes: usize, way: Way) {
        self.shared.lock().byte_cut = Some(ByteCut::new(bytes, way));
    }

    /// The cut that was asked for last, and what became of it.
    pub fn byte_cut(&self) -> Option<ByteCut> {
        self.shared.lock().byte_cut.clone()
    }

    /// Connections cut so far: before COMMIT reached the server, and after.
    pub fn cuts(&self) -> (usize, usize) {
        let state = self.shared.lock();
        (state.before, state.after)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_passage(&self) {
        let mut state = self.lock();
        while state.black_hole {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn keep_if_hanging(&self, client: TcpStream) -> Option<TcpStream> {
        match &mut self.lock().hung {
            Some(hung) => {
                hung.push(client);
                None
            }
            None => Some(client),
        }
    }

    /// Of a frame, as much as may pass on the connection with this number.
    fn allowed<'f>(&self, connection: u64, way: Way, frame: &'f Frame) -> &'f [u8] {
        let mut state = self.lock();
        let cut = state.byte_cut.as_mut();
        let bytes = cut.and_then(|cut| cut.allows(connection, way, frame));
        &frame.bytes[..bytes.unwrap_or(frame.bytes.len())]
    }

    /// What happens to the COMMIT at hand.
    fn cut_now(&self) -> Option<Cut> {
        let mut state = self.lock();
        let cut = state.armed.take().or_else(|| {
            let hit = fastrand::u32(0..1000) < state.random_per_mille;
            hit.then(|| if fastrand::bool() { Cut::BeforeCommit } else { Cut::AfterCommit })
        });
        // The cut after is counted when the server has confirmed the commit.
        state.before += usize::from(cut == Some(Cut::BeforeCommit));
        cut
    }
}

/// One connection: a thread for each direction.
fn connect(shared: &Arc<Shared>, client: TcpStream, server: TcpStream) {
    let withhold = Arc::new(Mutex::new(false));
    let number = {
        let mut state = shared.lock();
        state.connections += 1;
        state.connections
    };
    // Frames are written one by one: without this each waits for the acknowledgement of the one before, 40 ms.
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    let (Ok(client_reader), Ok(server_reader)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let both = (Arc::clone(shared), Arc::clone(&withhold));
    let (Ok(to_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
    std::thread::spawn(move || {
        drop(forward_requests(number, &both.0, &both.1, client_reader, to_server));
        hang_up(&client, &server);
    });
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let (client, server) = (to_client.try_clone(), server_reader.try_clone());
        drop(forward_replies(number, &shared, &withhold, server_reader, to_client));
        if let (Ok(client), Ok(server)) = (client, server) {
            hang_up(&client, &server);
        }
    });
}

/// The same for a connection that nobody can read.
fn connect_unread(client: &TcpStream, server: &TcpStream) {
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        std::thread::spawn(move || {
            drop(io::copy(&mut from, &mut to));
            hang_up(&from, &to);
        });
    }
}

/// Ends with an error when the connection is to be cut or has been.
fn forward_requests(
    connection: u64,
    shared: &Shared,
    withhold: &Mutex<bool>,
    client: TcpStream,
    mut server: TcpStream,
) -> Result<()> {
    let mut commits = Commits::default();
    let mut frames = Frames::of_client(client);
    while let Some(frame) = frames.next()? {
        shared.wait_for_passage();
        if commits.is_commit(&frame) {
            match shared.cut_now() {
                Some(Cut::BeforeCommit) => return Ok(()),
                Some(Cut::AfterCommit) => {
                    *withhold.lock().unwrap_or_else(PoisonError::into_inner) = true;
                }
                None => {}
            }
        }
        let allowed = shared.allowed(connection, Way::ToServer, &frame);
        server.write_all(allowed)?;
        if allowed.len() < frame.bytes.len() {
            return Ok(());
        }
    }
    Ok(())
}

fn forward_replies(
    connection: u64,
    shared: &Shared,
    withhold: &Mutex<bool>,
    server: TcpStream,
    mut client: TcpStream,
) -> Result<()> {
    let mut frames = Frames::of_server(server);
    while let Some(frame) = frames.next()? {
        shared.wait_for_passage();
        // An answer to a request before the COMMIT may still pass; an error says that there is no commit.
        if *withhold.lock().unwrap_or_else(PoisonError::into_inner) && committed(&frame) {
            shared.lock().after += 1;
            return Ok(());
        }
        let allowed = shared.allowed(connection, Way::ToClient, &frame);
        client.write_all(allowed)?;
        if allowed.len() < frame.bytes.len() {
            return Ok(());
        }
    }
    Ok(())
}

fn committed(frame: &Frame) -> bool {
    frame.kind == b'C' && frame.body().starts_with(b"COMMIT")
}

fn hang_up(client: &TcpStream, server: &TcpStream) {
    // Either may be gone already.
    drop(client.shutdown(Shutdown::Both));
    drop(server.shutdown(Shutdown::Both));
}

#[cfg(test)]
mod tests;
