//! Requests to EKS Auth.

use crate::agent::{Behaviour, credentials, fake_eks_auth, granted, serving, token};

#[tokio::test]
async fn with_token_authentication_the_agent_sends_its_own_token_and_no_signature() {
    let eks_auth = fake_eks_auth(Behaviour::Says(200, "", granted("default", "app"))).await;
    assert_eq!(credentials(serving(eks_auth.address).await, &token()).await.status, 200);
    assert_eq!(*eks_auth.authorization.lock().unwrap(), ["Bearer agents.own.token"]);
}
