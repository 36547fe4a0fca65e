//! A TCP proxy to the API server that can stall or refuse connections.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use testing::cluster::API_ADDRESS;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the proxy treats connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It forwards bytes.
    Forward,
    /// It accepts connections and forwards no bytes.
    Stall,
    /// It closes existing and new connections.
    Refuse,
}

/// A proxy to the API server. TLS ends at the API server.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, (mode, receiver)) = (listener.local_addr().unwrap(), watch::channel(Mode::Forward));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(forward(connection, receiver.clone()));
            }
        });
        Self { address, mode }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Writes a copy of a kubeconfig file whose server is this proxy.
    pub(crate) fn kubeconfig(&self, original: &Path, directory: &Path) -> PathBuf {
        let (text, server) = (std::fs::read_to_string(original).unwrap(), format!("https://{API_ADDRESS}"));
        let proxy = format!("https://{}", self.address);
        let mut file: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let cluster = &mut file["clusters"][0]["cluster"];
        assert_eq!(cluster["server"], server);
        (cluster["server"], cluster["tls-server-name"]) = (proxy.into(), API_ADDRESS.to_string().into());
        let path = directory.join("kubeconfig-of-proxy");
        std::fs::write(&path, file.to_string()).unwrap();
        path
    }
}

async fn forward(mut client: TcpStream, mut mode: watch::Receiver<Mode>) {
    let Ok(mut api_server) = TcpStream::connect((API_ADDRESS, 443)).await else { return };
    loop {
        let current = *mode.borrow_and_update();
        tokio::select! {
            _ = mode.changed() => {}
            _ = tokio::io::copy_bidirectional(&mut client, &mut api_server), if current == Mode::Forward => return,
            () = std::future::ready(()), if current == Mode::Refuse => return,
        }
    }
}
