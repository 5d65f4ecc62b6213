//! Cases about Redis servers behind a load balancer, whose one address leads to the master.

use broker_conformance::{
    case::{Case, Need, Outcome, case},
    harness::Harness,
    steps::wait_for_link,
};

use super::{failover_load::one_gap_and_nothing_silent, sentinel::cluster};
use crate::{
    cases::backend_common::connect,
    servers::{Server, haproxy::HaProxy},
};

pub(super) const CASES: &[Case] = &[case!(a_killed_master_behind_a_load_balancer_is_one_gap, [4, 6])
    .needs(&[Need::Process, Need::LoadBalancer])];

async fn a_killed_master_behind_a_load_balancer_is_one_gap(h: &dyn Harness) -> Outcome {
    let cluster = cluster().await?;
    let addrs: Vec<_> = cluster.servers().iter().map(Server::addr).collect();
    let balancer = HaProxy::start(&addrs).await?;
    let url = format!("redis://{}", balancer.addr());
    let (publisher, other) = (connect(h, &url).await?, connect(h, &url).await?);
    let mut received = other.subscribe("news").await?;
    let old = cluster.master().await?;
    one_gap_and_nothing_silent(&publisher, &mut received, async {
        old.kill().await?;
        wait_for_link(&publisher, 2).await?;
        Ok(wait_for_link(&other, 2).await?)
    })
    .await
}
