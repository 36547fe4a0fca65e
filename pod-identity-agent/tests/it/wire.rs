//! Requests to EKS Auth.

use crate::agent::{Behaviour, credentials, fake_eks_auth, granted, serving, token};

#[tokio::test]
async fn token_authentication_sends_the_agents_token_and_no_signature() {
    let eks_auth = fake_eks_auth(Behaviour::Responds(200, "", granted("default", "app"))).await;
    assert_eq!(credentials(serving(eks_auth.address).await, &token()).await.status, 200);
    assert_eq!(*eks_auth.authorization.lock().unwrap(), ["Bearer agents.own.token"]);
}
