//! A machine whose network the other host does not have: that is known beforehand, and a recovery ends before anything is made.

mod lab;

use lab::circle::{Side, run};
use provider::{Compute, Fence, NetworkChoice, PrepareReplica, ProviderError, RecoverMachine, ReplicaStore, Reports};
use recovery::ReplicationPolicy;

#[test]
fn a_machine_whose_network_the_host_lacks_is_refused_before_anything_is_made() {
    run("a_machine_whose_network_the_host_lacks", async |c| {
        let mut machine = c.site(Side::A).inspect(&c.name).await.expect("the machine is inspected");
        let card = "<interface type='network'><source network='nowhere'/></interface></devices>";
        machine.definition.0 = machine.definition.0.replace("</devices>", card);
        let policy = ReplicationPolicy::new(1, 16, 3600, None).expect("the policy is within its limits");
        let wanted = PrepareReplica { item: c.item(), generation: c.generation(), machine, policy, base: provider::Base::Empty };
        let endpoint = c.site(Side::B).prepare(&c.call(), wanted).await.expect("the replica is prepared");
        c.replicate(Side::A, endpoint).await;
        let point = c.point(Side::A);

        let host = c.site(Side::B).capacity().expect("the host says what it has");
        assert_eq!(host.networks[&c.item()].missing, ["network nowhere".to_owned()].into());

        c.next_run();
        c.fence(Side::A).await;
        let (site, generation) = (c.site(Side::B), c.generation());
        site.seal(&c.call(), &c.item(), generation).await.expect("the replica is sealed");
        let before = site.inventory().await.expect("there is an inventory").objects;
        let wanted = RecoverMachine { item: c.item(), generation, point, network: NetworkChoice::AsDefined };
        let refused = site.recover(&c.call(), wanted).await.expect_err("it could not be started");
        assert_eq!(refused, ProviderError::NoNetwork { machine: c.name.clone(), missing: "network nowhere".to_owned() });
        assert!(refused.not_applied() && !refused.retryable());
        assert_eq!(site.inventory().await.expect("there is an inventory").objects, before);
        c.site(Side::A).lift_fence(&c.call(), &c.item(), &c.name).await.expect("the machine at home runs again");
    });
}
