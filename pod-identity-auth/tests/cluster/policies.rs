//! The admission policies of `deploy/policies`.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use testing::cluster::{Cluster, apply, namespace};
use testing::eventually::eventually;

const POLICIES: &str = include_str!("../../../deploy/policies/agent-addresses.yaml");
const NAMESPACE: &str = "addresses";

/// Sends a Service without storing it. Returns the message of a refusal.
async fn service(client: &Client, external: &str, load_balancer: &str) -> Result<(), String> {
    let mut spec = json!({"ports": [{"port": 80}]});
    if !external.is_empty() {
        spec["externalIPs"] = json!(["203.0.113.7", external]);
    }
    if !load_balancer.is_empty() {
        spec["loadBalancerIP"] = json!(load_balancer);
    }
    let object = json!({"metadata": {"generateName": "address-"}, "spec": spec});
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let sent = services.create(&dry, &serde_json::from_value(object).unwrap()).await;
    sent.map(drop).map_err(|error| error.to_string())
}

async fn slice(client: &Client, kind: &str, address: &str) -> Result<(), String> {
    let object = json!({
        "metadata": {"generateName": "address-"}, "addressType": kind, "ports": [{"port": 80}],
        "endpoints": [{"addresses": [if kind == "IPv6" { "2001:db8::1" } else { "10.0.0.1" }]}, {"addresses": [address]}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let sent = slices.create(&dry, &serde_json::from_value(object).unwrap()).await;
    sent.map(drop).map_err(|error| error.to_string())
}

async fn status(client: &Client, ingress: Value) -> Result<(), String> {
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [ingress]}}}));
    let sent = services.patch_status("balanced", &PatchParams::default(), &patch).await;
    sent.map(drop).map_err(|error| error.to_string())
}

fn is_of_policy(result: &Result<(), String>) -> bool {
    result.as_ref().is_err_and(|message| message.contains("addresses of the EKS Pod Identity agent"))
}

#[test]
fn no_service_and_no_endpoint_takes_the_agents_addresses() {
    // The shared cluster may have the policies already, by the manifests.
    let Some(cluster) = Cluster::start() else { return };
    let kubeconfig = cluster.kubeconfig();
    cluster.run(async move || {
        let client = testing::cluster::client(&kubeconfig).await;
        namespace(&client, NAMESPACE, &[]).await;
        // Before the policies, the API server takes the IPv6 address.
        service(&client, "fd00:ec2::23", "").await.unwrap();
        slice(&client, "IPv6", "fd00:ec2::23").await.unwrap();
        let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
        let balanced = json!({"metadata": {"name": "balanced"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
        services.create(&PostParams::default(), &serde_json::from_value(balanced).unwrap()).await.unwrap();

        apply(&client, POLICIES).await;
        eventually("the policies are in effect", async || {
            let refused = [service(&client, "fd00:ec2::23", "").await, slice(&client, "IPv6", "fd00:ec2::23").await];
            refused.iter().all(is_of_policy).then_some(())
        })
        .await;
        for address in ["fd00:ec2::23", "fd00:0ec2:0:0::23", "FD00:EC2::23", "169.254.170.23"] {
            let refused = service(&client, address, "").await;
            assert!(refused.is_err(), "{address}");
            let refused = service(&client, "", address).await;
            assert!(is_of_policy(&refused), "{address}: {refused:?}");
            let refused = status(&client, json!({"ip": address})).await;
            assert!(refused.is_err(), "{address}: {refused:?}");
        }
        assert!(is_of_policy(&status(&client, json!({"ip": "fd00:ec2::23"})).await));
        assert!(slice(&client, "IPv6", "fd00:ec2:0::23").await.is_err(), "another spelling");
        assert!(slice(&client, "IPv4", "169.254.170.23").await.is_err());

        service(&client, "", "").await.unwrap();
        for address in ["198.51.100.4", "2001:db8::4", "fd00:ec2::24"] {
            service(&client, address, "").await.unwrap();
        }
        status(&client, json!({"ip": "198.51.100.4"})).await.unwrap();
        status(&client, json!({"hostname": "balancer.example.com"})).await.unwrap();
        slice(&client, "IPv4", "10.0.0.2").await.unwrap();
        slice(&client, "IPv6", "fd00:ec2::24").await.unwrap();
        slice(&client, "FQDN", "pod.example.com").await.unwrap();
    });
}
