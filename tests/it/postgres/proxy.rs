//! A proxy between a store and the server, which fails where a test says.
//!
//! It reads the messages of PostgreSQL's protocol, so that it knows where a transaction ends.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;

use datapool_store::{DataPoolStore, StoreOptions};

use super::environment;

/// What happens at the next COMMIT.
pub(super) enum Fault {
    /// The connection is cut before the server gets the COMMIT.
    CutBefore,
    /// The connection is cut after the server has committed and before the client knows. In between this is called.
    CutAfter(Box<dyn FnOnce() + Send>),
    /// The client loses its connection. The server gets the COMMIT once the test lets it through.
    Hold,
}

#[derive(Default)]
struct State {
    fault: Option<Fault>,
    /// The number of faults that have happened.
    struck: usize,
    /// True if the COMMIT that is held may go on.
    let_through: bool,
    /// True if no byte passes any more.
    is_silent: bool,
    /// True if connections are refused.
    refuses: bool,
    /// The number of messages that do not pass because it is silent.
    silenced: usize,
    /// Both ends of each connection.
    ends: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&State) -> bool) {
        drop(self.changed.wait_while(self.state(), |state| condition(state)).unwrap());
    }

    /// Does not return while the proxy is silent.
    fn pass(&self) {
        let is_silent = self.state().is_silent;
        if is_silent {
            self.change(|state| state.silenced += 1);
            self.wait_while(|state| state.is_silent);
        }
    }

    /// Takes the fault if it is one that happens here.
    fn take(&self, is_here: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let taken = self.state().fault.take_if(|fault| is_here(fault));
        if taken.is_some() {
            self.change(|state| state.struck += 1);
        }
        taken
    }
}

pub(super) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

/// Splits a URL into what is before, in, and after `host:port`.
fn split(url: &str) -> (&str, &str, &str) {
    let start = url.find('@').unwrap() + 1;
    let end = start + url[start..].find('/').unwrap();
    (&url[..start], &url[start..end], &url[end..])
}

impl Proxy {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::<Shared>::default();
        let (of_thread, server) =
            (Arc::clone(&shared), split(&environment("DATAPOOL_POSTGRES_URL")).1.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if of_thread.state().refuses {
                    continue;
                }
                let server = TcpStream::connect(&server).unwrap();
                let mut of_requests = Vec::new();
                for end in [&client, &server] {
                    end.set_nodelay(true).unwrap();
                    of_requests.push(end.try_clone().unwrap());
                    of_thread.state().ends.push(end.try_clone().unwrap());
                }
                let (requests, answers) = (Arc::clone(&of_thread), Arc::clone(&of_thread));
                let [own_client, own_server] = of_requests.try_into().unwrap();
                thread::spawn(move || pass_requests(&own_client, &own_server, &requests));
                thread::spawn(move || pass_answers(&client, &server, &answers));
            }
        });
        Self { port, shared }
    }

    pub(super) fn connect(&self, schema: &str) -> DataPoolStore {
        self.connect_with(schema, "")
    }

    /// Connects with parameters in the URL. What passes must not be encrypted.
    pub(super) fn connect_with(&self, schema: &str, parameters: &str) -> DataPoolStore {
        let url = environment("DATAPOOL_POSTGRES_URL");
        let (before, _, after) = split(&url);
        let sign = if after.contains('?') { '&' } else { '?' };
        let url = format!("{before}127.0.0.1:{}{after}{sign}sslmode=disable&{parameters}", self.port);
        StoreOptions::new().schema(schema).connect(&url).unwrap()
    }

    /// Lets a fault happen to the next transaction.
    pub(super) fn fail_next(&self, fault: Fault) {
        self.shared.change(|state| state.fault = Some(fault));
    }

    /// Returns the number of faults that have happened.
    pub(super) fn struck(&self) -> usize {
        self.shared.state().struck
    }

    /// Lets the COMMIT through that is held.
    pub(super) fn let_through(&self) {
        self.shared.change(|state| state.let_through = true);
    }

    /// Passes no byte on any more, and answers no connection.
    pub(super) fn go_silent(&self) {
        self.shared.change(|state| state.is_silent = true);
    }

    /// Returns the number of messages that have not passed since.
    pub(super) fn silenced(&self) -> usize {
        self.shared.state().silenced
    }

    /// Returns the number of connections that were made and not refused.
    pub(super) fn connections(&self) -> usize {
        self.shared.state().ends.len() / 2
    }

    /// Ends all connections, and makes no more.
    pub(super) fn refuse(&self) {
        self.shared.change(|state| {
            state.refuses = true;
            state.ends.drain(..).for_each(|end| cut(&end));
        });
    }
}

fn cut(end: &TcpStream) {
    let _ = end.shutdown(Shutdown::Both);
}

/// Reads a message, whose tag is followed by its length. A connection's first message has no tag.
fn read(from: &mut impl Read, tag_length: usize) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; tag_length + 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes(message[tag_length..].try_into().unwrap()) as usize;
    message.resize(tag_length + length, 0);
    from.read_exact(&mut message[tag_length + 4..])?;
    Ok(message)
}

fn pass_requests(client: &TcpStream, mut server: &TcpStream, shared: &Shared) {
    let mut from = BufReader::new(client);
    let mut next = read(&mut from, 0);
    while let Ok(message) = next {
        if message.starts_with(b"Q") && message.ends_with(b"COMMIT\0") {
            match shared.take(|fault| matches!(fault, Fault::CutBefore | Fault::Hold)) {
                Some(Fault::Hold) => {
                    cut(client);
                    shared.wait_while(|state| !state.let_through);
                }
                Some(_) => break,
                None => {}
            }
        }
        shared.pass();
        if server.write_all(&message).is_err() {
            break;
        }
        next = read(&mut from, 1);
    }
    // The server still answers what it got before.
    let _ = server.shutdown(Shutdown::Write);
    cut(client);
}

fn pass_answers(mut client: &TcpStream, server: &TcpStream, shared: &Shared) {
    let mut from = BufReader::new(server);
    let mut has_written = false;
    while let Ok(message) = read(&mut from, 1) {
        match message[0] {
            b'C' => has_written = !message[5..].starts_with(b"SELECT"),
            // No transaction is open any more.
            b'Z' if message[5] == b'I' && has_written => {
                if let Some(Fault::CutAfter(between)) =
                    shared.take(|fault| matches!(fault, Fault::CutAfter(_)))
                {
                    between();
                    break;
                }
                has_written = false;
            }
            _ => {}
        }
        shared.pass();
        // The client may be gone while the server still answers.
        let _ = client.write_all(&message);
    }
    cut(client);
    cut(server);
}
