//! A request under which an engine's connections break, one after another: it is given up, and no other suffers.

mod support;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sealwire_engine::EngineError;
use sealwire_engine::wire::tls::Identity;
use sealwire_engine::wire::{MAX_FRAME, Role, word};
use sealwire_protocol::Frame;
use support::cluster::Cluster;
use support::gateway::{OwnGateway, dec, enc, identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What the relay cannot bear.
const POISON: &[u8] = b"POISON";

/// Stands before an engine, with an engine's certificate, and passes on what gateways say to it. An ENC with the
/// poison in it ends the connection, as if the engine had died of it.
struct Relay {
    engine: String,
    /// As an engine and as a gateway.
    identities: [Arc<Identity>; 2],
    deaths: AtomicUsize,
}

impl Relay {
    /// Gives the relay, and its address.
    async fn start(cluster: &Cluster) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        let relay = Arc::new(Self {
            engine: cluster.engines[0].address(),
            identities: [Role::Engine, Role::Gateway].map(|role| identity(cluster, role)),
            deaths: AtomicUsize::new(0),
        });
        let accepting = relay.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let relay = accepting.clone();
                tokio::spawn(async move { relay.pass_on(stream).await });
            }
        });
        (relay, address)
    }

    async fn pass_on(&self, caller: TcpStream) -> io::Result<()> {
        let [as_engine, as_gateway] = &self.identities;
        let (caller, _) = as_engine.accept(caller, &[Role::Gateway]).await?;
        let engine = TcpStream::connect(&self.engine).await?;
        let engine = as_gateway.connector().connect(Role::Engine.server_name(), engine).await?;
        let (mut from_caller, mut to_caller) = tokio::io::split(caller);
        let (mut from_engine, mut to_engine) = tokio::io::split(engine);
        let there = async {
            let mut input = Vec::new();
            while from_caller.read_buf(&mut input).await? > 0 {
                while let Some(frame) = Frame::parse(&input, MAX_FRAME).map_err(io::Error::other)? {
                    if frame.header.opcode == word::ENC
                        && frame.body.windows(POISON.len()).any(|window| window == POISON)
                    {
                        self.deaths.fetch_add(1, Ordering::Relaxed);
                        return Err(io::Error::other("poison"));
                    }
                    let length = frame.wire_len();
                    to_engine.write_all(&input[..length]).await?;
                    input.drain(..length);
                }
                to_engine.flush().await?;
            }
            Ok(())
        };
        let back = async { tokio::io::copy(&mut from_engine, &mut to_caller).await.map(drop) };
        tokio::select! {
            ended = there => ended,
            ended = back => ended,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_breaks_connections_is_given_up_and_others_are_answered() {
    let cluster = Cluster::start(1, 1).await;
    let app = cluster.app(&["enc,dec:chat"]).await;
    cluster.key("chat").await;
    let (relay, address) = Relay::start(&cluster).await;
    let gateway = Box::pin(OwnGateway::start(&cluster, vec![address])).await;
    let (mut session, mut good) = (gateway.log_in(&app).await, gateway.log_in(&app).await);
    let chat = gateway.key("chat", "chat").await;
    let poisoning = async {
        for _ in 0..8 {
            // Until it is on its way: there may be no connection just then.
            let before = relay.deaths.load(Ordering::Relaxed);
            while relay.deaths.load(Ordering::Relaxed) == before {
                let refused = enc(&mut session, &chat, POISON).await;
                assert!(matches!(refused, Err(EngineError::Away(_))), "{:?}", refused.err());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let deaths = relay.deaths.load(Ordering::Relaxed) - before;
            assert!((1..=4).contains(&deaths), "{deaths} connections broke under one request");
        }
    };
    let going_on = async {
        for turn in 0..64_u8 {
            // Where all connections have just broken, one is told so, and tries again.
            let sealed = loop {
                match enc(&mut good, &chat, &[turn]).await {
                    Ok(sealed) => break sealed,
                    Err(EngineError::Away(_)) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            let opened = loop {
                match dec(&mut good, &chat, &sealed).await {
                    Ok(opened) => break opened,
                    Err(EngineError::Away(_)) => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            assert_eq!(opened, [turn]);
        }
    };
    let both = async { tokio::join!(poisoning, going_on) };
    timeout(Duration::from_secs(60), both).await.expect("neither hangs");
    println!("{} connections broke", relay.deaths.load(Ordering::Relaxed));
}
