//! A way to the API server that a test can close, or stop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use testing::cluster::API_ADDRESS;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// They are made, and bytes pass.
    Open,
    /// They are made, and no byte passes.
    Stopped,
    /// Those that there are end, and new ones do at once.
    Closed,
}

/// Forwards what comes to it to the API server, whose certificate clients see.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
}

impl Gate {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, (state, seen)) = (listener.local_addr().unwrap(), watch::channel(State::Open));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(forward(connection, seen.clone()));
            }
        });
        Self { address, state }
    }

    pub(crate) fn is(&self, state: State) {
        self.state.send_replace(state);
    }

    /// The same kubeconfig file, through this gate.
    pub(crate) fn kubeconfig(&self, of: &Path, directory: &Path) -> PathBuf {
        let (text, server) = (std::fs::read_to_string(of).unwrap(), format!("https://{API_ADDRESS}"));
        let through = format!("https://{}", self.address);
        let mut file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let cluster = &mut file["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], server);
        (cluster["server"], cluster["tls-server-name"]) = (through.into(), API_ADDRESS.to_string().into());
        let path = directory.join("through-the-gate");
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }
}

async fn forward(mut from: TcpStream, mut state: watch::Receiver<State>) {
    let Ok(mut to) = TcpStream::connect((API_ADDRESS, 443)).await else { return };
    loop {
        let now = *state.borrow_and_update();
        tokio::select! {
            _ = state.changed() => {}
            _ = tokio::io::copy_bidirectional(&mut from, &mut to), if now == State::Open => return,
            () = std::future::ready(()), if now == State::Closed => return,
        }
    }
}
