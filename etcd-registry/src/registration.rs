//! A server's place in the registry: put there, kept there, taken away at the end.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use tokio::{
    net::{UdpSocket, lookup_host},
    sync::oneshot,
    task::JoinHandle,
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    DEFAULT_WEIGHT, Instance,
    etcd::{Etcd, EtcdError, Lease},
    options::{Endpoints, RegistryOptions},
    prefix,
};

/// How long a server stays in the registry that was killed. Kitex's own servers take 60 s.
const LEASE_TTL: Duration = Duration::from_secs(15);

/// How often the lease is kept alive and the entry looked for: an etcd that lost it has it again within this time.
const CHECK_INTERVAL: Duration = Duration::from_secs(3);

/// The pause between attempts while etcd is away.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long the end of a server waits for etcd.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(2);

/// The address under which others reach a server; empty to find it out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advertise(String);

impl FromStr for Advertise {
    type Err = String;

    fn from_str(value: &str) -> Result<Self, String> {
        match value.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(1..))) if !host.is_empty() => Ok(Self(value.to_owned())),
            None if value.is_empty() => Ok(Self::default()),
            _ => Err("takes host:port, as in 10.0.0.7:8888".to_owned()),
        }
    }
}

impl Advertise {
    /// The address to register for a server that listens on `listening`. One that listens on all addresses is reached
    /// by that of the interface that leads to etcd.
    async fn address(&self, listening: SocketAddr, etcd: &Endpoints) -> std::io::Result<String> {
        match etcd.0.first() {
            _ if !self.0.is_empty() => Ok(self.0.clone()),
            Some(endpoint) if listening.ip().is_unspecified() => {
                Ok(SocketAddr::new(outbound_ip(endpoint).await?, listening.port()).to_string())
            }
            _ => Ok(listening.to_string()),
        }
    }
}

/// The address of the interface that leads to `endpoint`. Nothing is sent.
async fn outbound_ip(endpoint: &str) -> std::io::Result<IpAddr> {
    let host_port = endpoint.trim_start_matches("http://");
    let to = lookup_host(host_port).await?.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    Ok(socket.local_addr()?.ip())
}

/// A server that is registered until it stops.
#[derive(Debug)]
pub struct Registration {
    stop: oneshot::Sender<()>,
    kept: JoinHandle<()>,
}

impl Registration {
    /// Registers a server that listens on `listening`, in the background: an etcd that is away is found when it comes.
    /// `None` without a registry.
    pub fn start(registry: &RegistryOptions, advertise: Advertise, listening: SocketAddr) -> Option<Self> {
        if registry.etcd.0.is_empty() {
            return None;
        }
        let registry = registry.clone();
        let (stop, stopped) = oneshot::channel();
        let kept = tokio::spawn(async move {
            let etcd = Etcd::new(&registry.etcd.0);
            let mut lease = None;
            tokio::select! {
                () = keep(&etcd, &registry, &advertise, listening, &mut lease) => {}
                _ = stopped => {}
            }
            if let Some(lease) = lease
                && let Err(e) = etcd.revoke(&lease).await
            {
                warn!(error = %e, "not taken out of the registry: the entry ends with its lease");
            }
        });
        Some(Self { stop, kept })
    }

    /// Takes the server out of the registry.
    pub async fn deregister(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(DEREGISTER_TIMEOUT, self.kept).await;
    }
}

/// Registers, and again whenever etcd has lost it. `lease` always holds the one that is in use.
async fn keep(
    etcd: &Etcd,
    registry: &RegistryOptions,
    advertise: &Advertise,
    listening: SocketAddr,
    lease: &mut Option<Lease>,
) {
    let mut away = false;
    if advertise.0.is_empty() && listening.ip().is_loopback() {
        warn!(%listening, "the registry gets an address that only this machine reaches: listen elsewhere, or --advertise");
    }
    loop {
        let checked = match advertise.address(listening, &registry.etcd).await {
            Ok(address) => check(etcd, &registry.service_name, address, lease).await.map_err(|e| e.to_string()),
            Err(e) => Err(format!("no way leads to etcd: {e}")),
        };
        let pause = match checked {
            Ok(()) => {
                away = false;
                CHECK_INTERVAL
            }
            Err(e) => {
                if !std::mem::replace(&mut away, true) {
                    warn!(error = e, "etcd cannot be reached: registering when it is back");
                }
                RETRY_PAUSE
            }
        };
        sleep(pause).await;
    }
}

/// Sees to it that the server's entry is there under a living lease.
async fn check(etcd: &Etcd, service: &str, address: String, lease: &mut Option<Lease>) -> Result<(), EtcdError> {
    let key = prefix(service) + &address;
    let kept = match lease {
        Some(lease) => etcd.keep_alive(lease).await?,
        None => false,
    };
    if kept && etcd.list(&key).await?.entries.iter().any(|(found, _)| *found == key) {
        return Ok(());
    }
    let lease = match lease {
        Some(lease) if kept => lease,
        _ => lease.insert(etcd.grant(LEASE_TTL).await?),
    };
    let instance = Instance { network: "tcp".into(), address, weight: DEFAULT_WEIGHT, tags: None };
    etcd.put(&key, &serde_json::to_vec(&instance)?, lease).await?;
    info!(key, "registered in etcd");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_is_what_kitex_writes() {
        let instance = Instance { network: "tcp".into(), address: "10.0.0.7:8888".into(), weight: 10, tags: None };
        let value = serde_json::to_string(&instance).expect("written");
        assert_eq!(value, r#"{"network":"tcp","address":"10.0.0.7:8888","weight":10,"tags":null}"#);
    }

    #[tokio::test]
    async fn a_server_on_all_addresses_registers_one_that_others_reach() {
        let etcd = Endpoints(vec!["http://127.0.0.1:2379".into()]);
        let address = |advertise: &str, listening: &str| {
            let (advertise, listening) = (advertise.parse::<Advertise>(), listening.parse());
            let etcd = etcd.clone();
            async move { advertise.expect("valid").address(listening.expect("valid"), &etcd).await.expect("found") }
        };
        assert_eq!(address("", "0.0.0.0:8888").await, "127.0.0.1:8888");
        assert_eq!(address("", "[::]:8888").await, "127.0.0.1:8888");
        assert_eq!(address("", "10.0.0.7:8888").await, "10.0.0.7:8888");
        assert_eq!(address("im.example:80", "0.0.0.0:8888").await, "im.example:80");
    }
}
