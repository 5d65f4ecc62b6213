//! Line: one node's wire to the server, and the lines of a cluster whose server is reached over TCP.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::proxy::{Proxy, rewrite::Ports};

/// One node's wire to the server. Dropping it ends what is connected through it.
pub trait Line: fmt::Debug + Send + Sync {
    /// The server's URL by way of this line.
    fn url(&self) -> String;

    /// Loses the links of this line at once, and refuses new ones until [`heal`](Self::heal).
    fn cut(&self);

    /// Swallows everything in both directions until [`heal`](Self::heal); nobody is told. What lived through
    /// it is dead for good.
    fn stall(&self);

    /// Swallows what comes from the server, as far as the backend knows directions; else as
    /// [`stall`](Self::stall).
    fn stall_downstream(&self) {
        self.stall();
    }

    /// Ends the fault.
    fn heal(&self);
}

/// The lines of one cluster: each is a fault proxy of its own before the one server, or before each member.
#[derive(Debug, Default)]
pub struct ProxyLines(Mutex<Vec<Weak<Proxy>>>);

impl ProxyLines {
    /// One more line to a server; `url_at` makes the URL of the server as reached through an address.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn add(
        &self,
        server: SocketAddr,
        url_at: impl FnOnce(SocketAddr) -> String + Send,
    ) -> Result<Arc<dyn Line>, String> {
        let proxy = self.proxy(server).await?;
        Ok(Arc::new(ProxyLine { url: url_at(proxy.addr()), proxies: vec![proxy] }))
    }

    /// One more line to a cluster of several members, whose ports stay as they are: a proxy before each. What members
    /// tell of each other leads to these proxies as well. `url_at` makes the URL of the members as reached through
    /// addresses, which are in the order of the members.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn add_to_members(
        &self,
        members: &[SocketAddr],
        url_at: impl FnOnce(&[SocketAddr]) -> String + Send,
    ) -> Result<Arc<dyn Line>, String> {
        let (proxies, addrs) = self.proxies(members).await?;
        let ports = Ports::new(members.iter().copied().zip(addrs.iter().copied()))?;
        proxies.iter().for_each(|proxy| proxy.rewrite(ports.clone()));
        Ok(Arc::new(ProxyLine { url: url_at(&addrs), proxies }))
    }

    /// As [`add_to_members`](Self::add_to_members), for servers that do not tell clients of each other: what they say goes
    /// on as it is.
    ///
    /// # Errors
    /// No port could be had.
    pub async fn add_to_servers(
        &self,
        servers: &[SocketAddr],
        url_at: impl FnOnce(&[SocketAddr]) -> String + Send,
    ) -> Result<Arc<dyn Line>, String> {
        let (proxies, addrs) = self.proxies(servers).await?;
        Ok(Arc::new(ProxyLine { url: url_at(&addrs), proxies }))
    }

    async fn proxies(&self, servers: &[SocketAddr]) -> Result<(Vec<Arc<Proxy>>, Vec<SocketAddr>), String> {
        let mut proxies = Vec::with_capacity(servers.len());
        for server in servers {
            proxies.push(self.proxy(*server).await?);
        }
        let addrs = proxies.iter().map(|proxy| proxy.addr()).collect();
        Ok((proxies, addrs))
    }

    async fn proxy(&self, server: SocketAddr) -> Result<Arc<Proxy>, String> {
        let proxy = Proxy::start(server).await.map_err(|error| format!("proxy: {error}"))?;
        let proxy = Arc::new(proxy);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&proxy));
        Ok(proxy)
    }

    /// Leads every line to where the one server is now.
    pub fn lead_to(&self, server: SocketAddr) {
        let proxies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.iter().filter_map(Weak::upgrade).for_each(|proxy| proxy.set_upstream(server));
    }
}

/// A line through fault proxies: what most servers need.
#[derive(Debug)]
struct ProxyLine {
    proxies: Vec<Arc<Proxy>>,
    url: String,
}

impl ProxyLine {
    fn each(&self, fault: impl Fn(&Proxy)) {
        self.proxies.iter().for_each(|proxy| fault(proxy));
    }
}

impl Line for ProxyLine {
    fn url(&self) -> String {
        self.url.clone()
    }

    fn cut(&self) {
        self.each(Proxy::cut);
    }

    fn stall(&self) {
        self.each(Proxy::stall);
    }

    fn stall_downstream(&self) {
        self.each(Proxy::stall_downstream);
    }

    fn heal(&self) {
        self.each(Proxy::heal);
    }
}
