//! A gateway that was taken over: it has its certificate, the keystore and an app's capability, and says what
//! it likes. The engines open the keys that the app may use, and no other.

mod support;

use sealwire_engine::EngineError;
use support::cluster::{Cluster, Process};
use support::gateway::{OwnGateway, dec, enc};

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_opens_no_key_outside_it_whatever_the_gateway_says() {
    let cluster = Cluster::start(2, 1).await;
    let app = cluster.app(&["enc,dec:chat"]).await;
    cluster.key("chat").await;
    let vault = cluster.key("vault").await.index;
    let other = cluster.app(&["enc,dec:vault"]).await;
    let client = cluster.client(&other).connect().await.expect("connects");
    let secret = client.enc(vault, b"", b"somebody else's").await.expect("sealed");
    let engines = cluster.engines.iter().map(Process::address).collect();
    let gateway = Box::pin(OwnGateway::start(&cluster, engines)).await;
    let mut session = gateway.log_in(&app).await;
    let (chat, vault) = (gateway.key("chat", "chat").await, gateway.key("vault", "vault").await);
    // Each of both engines is asked, most likely.
    for _ in 0..16 {
        let sealed = enc(&mut session, &chat, b"mine").await.expect("granted");
        assert_eq!(dec(&mut session, &chat, &sealed).await.expect("granted"), b"mine");
        let opened = dec(&mut session, &vault, &secret).await;
        assert!(matches!(opened, Err(EngineError::NotGranted)), "{:?}", opened.err());
        let sealed = enc(&mut session, &vault, b"mine").await;
        assert!(matches!(sealed, Err(EngineError::NotGranted)), "{:?}", sealed.err());
    }
    // Whose blob it is, its wrapping says: under the name of a key that is granted, it does not open.
    let disguised = gateway.key("chat", "vault").await;
    let sealed = enc(&mut session, &disguised, b"mine").await;
    assert!(matches!(sealed, Err(EngineError::Unwrap(_))), "{:?}", sealed.err());
    // The app whose key it is opens it through the same gateway.
    let mut session = gateway.log_in(&other).await;
    assert_eq!(dec(&mut session, &vault, &secret).await.expect("granted"), b"somebody else's");
}
