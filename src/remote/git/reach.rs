//! Which addresses NICO asks for a repository. Users choose `spec.gitRepo`: through NICO they must not get at what only its pod or its
//! node can reach, such as a cloud's metadata service.

use std::net::{IpAddr, SocketAddr};

use super::address::Place;
use super::error::GitError;
use crate::api::host::Host;
use crate::remote::offload::look_up;
use crate::remote::ssh;

/// From where NICO asks git servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// From a pod. At a loopback address there is only what runs in that pod.
    #[default]
    Pod,
    /// From a host, as in development, which may serve a repository itself.
    Host,
}

impl Reach {
    /// The addresses of a server, without those that NICO does not ask. A name is looked up only here: the same addresses are then
    /// connected to, whatever the name means a moment later.
    pub(super) async fn look_up(self, place: &Place) -> Result<Vec<SocketAddr>, GitError> {
        let found = match &place.host {
            Host::Ip(ip) => vec![SocketAddr::new(*ip, place.port)],
            Host::Name(name) => {
                let found = look_up(name, place.port).await;
                let unknown = |error| GitError::of_ssh(place.at(), ssh::unreachable("", &error));
                found.map_err(unknown)?
            }
        };
        let allowed = found.into_iter().filter(|at| self.allows(at.ip()));
        let allowed: Vec<SocketAddr> = allowed.collect();
        if allowed.is_empty() {
            return Err(GitError::NotAsked { at: place.at() });
        }
        Ok(allowed)
    }

    fn allows(self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let is_of_this_link = match ip {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let is_own = self == Self::Pod && Host::Ip(ip).is_local();
        !is_of_this_link && !is_own && !ip.is_multicast()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_only_nicos_pod_or_node_reaches_is_not_asked() {
        let asked = async |reach: Reach, repo: &str| {
            let place = Place::parse(repo)?;
            Some(reach.look_up(&place).await)
        };
        let refused = |repo: &str| {
            Err(GitError::NotAsked {
                at: repo
                    .split_once("://")
                    .map_or_else(String::new, |(_, rest)| {
                        rest.split('/').next().unwrap_or_default().to_owned()
                    }),
            })
        };
        for host in [
            "169.254.169.254",
            "169.254.20.10",
            "255.255.255.255",
            "224.0.0.1",
        ] {
            for scheme in ["http", "https", "ssh", "git"] {
                let repo = format!("{scheme}://{host}/x");
                for reach in [Reach::Pod, Reach::Host] {
                    assert_eq!(asked(reach, &repo).await, Some(refused(&repo)), "{repo}");
                }
            }
        }
        for host in ["127.0.0.1", "127.1.2.3:3000", "0.0.0.0", "localhost"] {
            let repo = format!("http://{host}/x");
            assert_eq!(
                asked(Reach::Pod, &repo).await,
                Some(refused(&repo)),
                "{repo}"
            );
        }
        let own = asked(Reach::Host, "http://127.0.0.1:3000/x").await;
        assert_eq!(own, Some(Ok(vec![([127, 0, 0, 1], 3000).into()])));
        let allowed = asked(Reach::Pod, "git@10.0.0.1:x").await;
        assert_eq!(allowed, Some(Ok(vec![([10, 0, 0, 1], 22).into()])));
    }

    #[test]
    fn each_spelling_of_an_address_is_the_same_address() {
        for (ip, of_pod, of_host) in [
            ("::1", false, true),
            ("::", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("ff02::1", false, false),
            ("fd00::1", true, true),
            ("192.168.0.1", true, true),
            ("2001:db8::1", true, true),
        ] {
            let ip = ip
                .parse()
                .map(|ip| (Reach::Pod.allows(ip), Reach::Host.allows(ip)));
            assert_eq!(ip, Ok((of_pod, of_host)));
        }
    }
}
