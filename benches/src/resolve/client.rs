//! The same with a whole client: GetCallerIdentity at a bare hyper server on loopback.

use aws_sdk_sts::Client;
use aws_sdk_sts::config::{BehaviorVersion, Builder, Region};
use pod_identity_runtime::clock;

use super::Error;
use crate::Outcome;
use crate::measure::{Pairs, cpu_of, each, in_turn, pin};
use crate::served::serve;

const ROUNDS: usize = 41;
const TIMES: u32 = 200;

/// A response in the form of the STS API reference, *GetCallerIdentity*.
const RESPONSE: &str = r#"<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:sts::111122223333:assumed-role/app/bench</Arn><UserId>AROAEXAMPLE:bench</UserId><Account>111122223333</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"#;

pub(super) fn run() -> Outcome {
    let server = serve(|| async move { Ok(vec![crate::get::bare::serve(RESPONSE.into()).await?]) })?;
    let config = || {
        Builder::new()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-west-1"))
            .endpoint_url(format!("http://{}", server.addresses[0]))
    };
    let provider = super::ours(true);
    let cache = provider.identity_cache();
    let ours = config().credentials_provider(provider).identity_cache(cache).build();
    let sdk = config().credentials_provider(super::credentials(true)).build();
    let (ours, sdk) = (Client::from_conf(ours), Client::from_conf(sdk));

    let thread = || {
        pin(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let calls = |client: &Client| {
            let started = clock::monotonic();
            let (done, cpu) = cpu_of(|| runtime.block_on(calls(client)));
            done?;
            Ok::<_, Error>((each(started.elapsed(), TIMES) / 1e3, each(cpu, TIMES) / 1e3))
        };
        in_turn(ROUNDS, || super::plain(calls(&sdk)), || super::plain(calls(&ours)))
            .map_err(|error| Error::from(error.to_string()))
    };
    let rounds = std::thread::scope(|scope| scope.spawn(thread).join()).map_err(|_| "a thread panicked")?;
    let rounds = super::plain(rounds)?;
    Pairs::of(&rounds, |round| round.0).print("GetCallerIdentity, time", "the SDK's", "ours", "µs");
    Pairs::of(&rounds, |round| round.1).print("GetCallerIdentity, CPU", "the SDK's", "ours", "µs");
    Ok(())
}

async fn calls(client: &Client) -> Result<(), Error> {
    for _ in 0..TIMES {
        if client.get_caller_identity().send().await?.account() != Some("111122223333") {
            return Err("want AWS account 111122223333".into());
        }
    }
    Ok(())
}
