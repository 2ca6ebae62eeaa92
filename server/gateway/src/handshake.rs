//! AUTH: challenge and response, then the allow-list. All refusals look alike on the wire, and take
//! the same way inside; the log tells them apart.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sealwire_engine::document::AppDocument;
use sealwire_engine::{
    AuthAttempt, Authenticated, EngineError, GatewayRole, SignedDocument, Site, Verified,
};
use sealwire_protocol::auth::{Channel, Proof, Transcript};
use sealwire_protocol::message::{AuthRequest, AuthResponse};
use sealwire_protocol::{ErrorCode, Flags, Frame, Header, Opcode, frame, limits};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::admission::{self, LetIn, Shown};
use crate::guesses::Crowd;
use crate::link::{End, Link};
use crate::session::{Session, request_id_0};
use crate::{Gateway, Refusal};

/// Who is at the other end, as far as the socket tells.
#[derive(Debug, Clone, Copy)]
pub struct Peer {
    /// The address; an IPv4-mapped one is given as IPv4.
    pub address: IpAddr,
    /// What the connection runs over.
    pub channel: Channel,
}

/// What the clocks of gateway and engine may differ by, and a session last longer than it should: the
/// capability holds to its very end.
const CLOCKS: Duration = Duration::from_secs(60);

/// Authenticates the peer, or ends the connection.
pub(crate) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    peer: &Peer,
    gateway: &Arc<Gateway>,
) -> Result<Session, End> {
    let offered = gateway.limits.offered();
    let (header, hello) = next_request(link, |frame| match AuthRequest::parse(frame.body)? {
        AuthRequest::Hello { client_nonce, app_key } => Ok((client_nonce, app_key.to_vec())),
        AuthRequest::Proof { .. } => Err(state("a proof came before the challenge")),
    })
    .await?;
    let (client_nonce, app_key) = hello;
    let crowd = |Crowd| End::refused(header, ErrorCode::TOO_MANY_CONNECTIONS.into());
    gateway.guesses.turn(peer.address).await.map_err(crowd)?;
    let server_nonce = challenge(gateway).await.map_err(|refusal| End::refused(header, refusal))?;
    let challenge = AuthResponse::Challenge { server_nonce, limits: offered };
    answer(link, header, &challenge).await?;
    let (header, proof) = next_request(link, |frame| match AuthRequest::parse(frame.body)? {
        AuthRequest::Proof { proof } => Ok(proof),
        AuthRequest::Hello { .. } => Err(state("a second hello came instead of the proof")),
    })
    .await?;
    let transcript = Transcript {
        channel: peer.channel,
        client_nonce,
        server_nonce,
        app_key: &app_key,
        limits: offered,
    };
    let lifetime = gateway.limits.session_lifetime + gateway.limits.drain_timeout + CLOCKS;
    let attempt = AuthAttempt { transcript, proof, lifetime: lifetime.as_secs() };
    let (session, server_proof) =
        admit(gateway, peer, &attempt).await.map_err(|refusal| End::refused(header, refusal))?;
    answer(link, header, &AuthResponse::Accepted { proof: server_proof }).await?;
    Ok(session)
}

/// The server nonce: the engine makes it, so that it recognises it again.
async fn challenge(gateway: &Gateway) -> Result<[u8; limits::AUTH_NONCE_LEN], Refusal> {
    Ok(gateway.engine.challenge(&gateway.directory.site().await?.site).await?)
}

/// Has the engine check the proof, then the allow-list, then opens the session.
async fn admit(
    gateway: &Arc<Gateway>,
    peer: &Peer,
    attempt: &AuthAttempt<'_>,
) -> Result<(Session, Proof), Refusal> {
    let app_key = std::str::from_utf8(attempt.transcript.app_key)
        .map_err(|_| Refusal::from(ErrorCode::AUTH_FAILED))?;
    let LetIn { granted, watch, site } =
        admission::admit(gateway, peer.address, app_key, attempt).await?;
    let Authenticated { server_proof, capability, app } = granted;
    let engine = gateway.engine.session(&site.site, &capability)?;
    let session = Session::new(gateway.clone(), (app.id.clone(), peer.address), watch, engine);
    Ok((session, server_proof))
}

impl Shown for AuthAttempt<'_> {
    type Granted = Authenticated;

    const NAME: &'static str = "AUTH";
    const RECORDED: bool = true;

    async fn check(
        &self,
        engine: &GatewayRole,
        site: &Site,
        document: &SignedDocument,
    ) -> Result<Authenticated, EngineError> {
        engine.auth_verify(site, document, self).await
    }

    fn app(granted: &Authenticated) -> &Verified<AppDocument> {
        &granted.app
    }
}

/// The next frame, which must be AUTH. Before AUTH has succeeded, every defect ends the connection.
async fn next_request<S, T>(
    link: &mut Link<S>,
    parse: impl FnOnce(&Frame<'_>) -> Result<T, Refusal>,
) -> Result<(Header, T), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match Frame::parse(link.input.unread(), limits::PRE_AUTH_MAX_FRAME) {
            Ok(Some(frame)) => {
                let header = frame.header;
                if header.request_id == 0 {
                    return Err(End::Refused(CONNECTION, request_id_0()));
                }
                let parsed = check_header(header).and_then(|()| parse(&frame));
                let length = frame.wire_len();
                let parsed = parsed.map_err(|refusal| End::refused(header, refusal))?;
                link.input.consume(length);
                return Ok((header, parsed));
            }
            Ok(None) => {
                if link.fill().await? == 0 {
                    return Err(End::Closed);
                }
            }
            Err(error) => return Err(End::Refused(CONNECTION, error.into())),
        }
    }
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<S>,
    header: Header,
    response: &AuthResponse,
) -> Result<(), End> {
    let open = frame::begin(&mut link.output, Header { flags: Flags::RESPONSE, ..header });
    response.encode(&mut link.output);
    open.finish(&mut link.output);
    link.flush().await
}

/// The header of what the server says of the connection itself.
pub(crate) const CONNECTION: Header =
    Header { opcode: Opcode(0), flags: Flags::RESPONSE, request_id: 0 };

fn check_header(header: Header) -> Result<(), Refusal> {
    if header.flags != Flags::REQUEST {
        return Err(ErrorCode::RESERVED_FLAGS.into());
    }
    if header.opcode != Opcode::AUTH {
        return Err(ErrorCode::AUTH_REQUIRED.into());
    }
    Ok(())
}

fn state(detail: &'static str) -> Refusal {
    Refusal::new(ErrorCode::AUTH_STATE, detail)
}
