use std::net::Ipv4Addr;

use super::*;

const LIMITS: Limits = Limits {
    connections: 16,
    connections_per_peer: 2,
    requests_per_peer: 40,
    head: Duration::from_secs(5),
    write_stall: Duration::from_secs(5),
};

fn peer(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

fn admit(connections: &Connections, last: u8, has_client_ca: bool) -> Result<Permit, Closed> {
    connections.admit(peer(last), false, connections.permit_now().unwrap(), has_client_ca)
}

#[tokio::test]
async fn refuses_a_peer_at_its_limit_and_serves_others() {
    let connections = Connections::new(LIMITS);
    let permits = [admit(&connections, 1, false).unwrap(), admit(&connections, 1, false).unwrap()];
    assert_eq!(admit(&connections, 1, false).unwrap_err(), Closed::PeerLimit);
    let _other = admit(&connections, 2, false).unwrap();
    drop(permits);
    assert!(admit(&connections, 1, false).is_ok());
}

#[tokio::test]
async fn exempts_a_peer_with_a_client_certificate() {
    let connections = Connections::new(LIMITS);
    let _permits = [admit(&connections, 1, true).unwrap(), admit(&connections, 1, true).unwrap()];
    let mut without = admit(&connections, 1, true).unwrap();
    assert_eq!(without.settle(false), Err(Closed::PeerLimit));
    drop(without);
    let mut with: Vec<_> = (0..8).map(|_| admit(&connections, 1, true).unwrap()).collect();
    assert!(with.iter_mut().all(|permit| permit.settle(true).is_ok()));
}

#[tokio::test]
async fn keeps_connections_for_peers_with_a_client_certificate() {
    let connections = Connections::new(LIMITS);
    let _permits: Vec<_> = (0..14).map(|last| admit(&connections, last, true).unwrap()).collect();
    let mut late = admit(&connections, 100, true).unwrap();
    assert_eq!(late.settle(false), Err(Closed::UnverifiedLimit));
    assert_eq!(late.settle(true), Ok(()));
}

#[tokio::test]
async fn forgets_peers_without_connections_and_returns_every_permit() {
    let connections = Connections::new(LIMITS);
    for last in 0..200 {
        drop(admit(&connections, last, last % 2 == 0).unwrap());
    }
    let open = connections.0.open();
    assert_eq!((open.peers.len(), open.unverified, open.over_limit), (0, 0, 0));
    assert_eq!(connections.0.permits.available_permits(), 16);
}

#[tokio::test(start_paused = true)]
async fn delays_only_a_peer_above_its_rate() {
    let connections = Connections::new(LIMITS);
    let permit = admit(&connections, 1, false).unwrap();
    let start = Instant::now();
    for _ in 0..10 {
        permit.request().await;
    }
    assert_eq!(start.elapsed(), Duration::ZERO, "a burst of a quarter of a second waits");
    for _ in 0..80 {
        permit.request().await;
    }
    assert_eq!(start.elapsed().as_millis() / 100, 20, "{:?}", start.elapsed());
    // A new connection does not reset the rate.
    drop(permit);
    let start = Instant::now();
    admit(&connections, 1, false).unwrap().request().await;
    assert!(start.elapsed() >= Duration::from_millis(24), "{:?}", start.elapsed());
}
