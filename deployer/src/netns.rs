//! Sockets made inside a container's network namespace, used from outside it. This way in needs no bridge, no veth
//! and no first ARP probe, and two generations can listen on the same port.
//!
//! ```text
//!   async code ──wish──► thread that entered the namespace and never comes back ──socket──► async code connects
//! ```
//!
//! Side effects: one thread per namespace; it ends when the [`Namespace`] is dropped. The namespace lives as long
//! as the thread does, even if every program in it has ended: connections are then refused, and never misrouted.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::LinkNameSpaceType;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// Answers one wish for a socket.
type Wish = oneshot::Sender<io::Result<OwnedFd>>;

/// A network namespace in which sockets can be made.
#[derive(Debug)]
pub struct Namespace {
    wishes: mpsc::Sender<Wish>,
    inode: u64,
}

impl Namespace {
    /// The namespace of a process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{pid}/ns/net"))?;
        let inode = file.metadata()?.ino();
        let (wishes, inbox) = mpsc::channel::<Wish>();
        let (entered, outcome) = mpsc::sync_channel(1);
        std::thread::Builder::new().name(format!("netns-{pid}")).spawn(move || {
            let result = rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network));
            let is_in = result.is_ok();
            // Whoever waits for the outcome is in `of_process`, below; it cannot have left.
            drop(entered.send(result.map_err(io::Error::from)));
            if is_in {
                for wish in inbox {
                    // A wish whose asker was cancelled closes its socket again.
                    drop(wish.send(socket()));
                }
            }
        })?;
        outcome.recv().map_err(|_| io::Error::other("the namespace's thread ended"))??;
        Ok(Self { wishes, inode })
    }

    /// The inode of the namespace: two processes share a network if theirs are equal.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Connects to a port on the namespace's loopback.
    pub async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let (wish, answer) = oneshot::channel();
        let ended = || io::Error::other("the namespace's thread ended");
        self.wishes.send(wish).map_err(|_| ended())?;
        let socket = answer.await.map_err(|_| ended())??;
        let stream = TcpSocket::from_std_stream(std::net::TcpStream::from(socket))
            .connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A process that holds a network namespace with its loopback up.
    pub(crate) struct Holder(Child);

    impl Holder {
        pub(crate) fn start() -> Option<Self> {
            let child = Command::new("unshare")
                .args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep 3600"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn();
            let mut line = String::new();
            let holder = child.ok().map(Self).and_then(|mut holder| {
                let stdout = holder.0.stdout.take()?;
                BufReader::new(stdout).read_line(&mut line).ok()?;
                (line.trim() == "up").then_some(holder)
            });
            if holder.is_none() {
                assert!(std::env::var_os("NEBH_REQUIRE_PEERS").is_none(), "no network namespaces here");
                println!("SKIPPED: no network namespaces here (root, unshare and ip are needed)");
            }
            holder
        }

        pub(crate) fn pid(&self) -> u32 {
            self.0.id()
        }

        /// Listens inside the namespace.
        pub(crate) fn listen(&self, port: u16) -> std::net::TcpListener {
            let file = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
            std::thread::spawn(move || {
                rustix::thread::move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap()
            })
            .join()
            .unwrap()
        }
    }

    impl Drop for Holder {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    #[tokio::test]
    async fn same_port_in_two_namespaces_reaches_two_programs() {
        let (Some(one), Some(two)) = (Holder::start(), Holder::start()) else { return };
        let (first, second) = (one.listen(8080), two.listen(8080));
        let (inside_one, inside_two) =
            (Namespace::of_process(one.pid()).unwrap(), Namespace::of_process(two.pid()).unwrap());
        assert_ne!(inside_one.inode(), inside_two.inode());
        let to_first = inside_one.connect(8080).await.unwrap();
        let to_second = inside_two.connect(8080).await.unwrap();
        assert_eq!(first.accept().unwrap().1, to_first.local_addr().unwrap());
        assert_eq!(second.accept().unwrap().1, to_second.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_port_nobody_listens_on_is_refused_also_after_the_program_ended() {
        let Some(holder) = Holder::start() else { return };
        let inside = Namespace::of_process(holder.pid()).unwrap();
        drop(holder);
        assert_eq!(inside.connect(8080).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }
}
