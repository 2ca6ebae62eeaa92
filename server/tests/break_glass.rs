//! A quorum of key cards makes a root-officer when no operator can.

mod support;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sealwire_engine::custody::{CeremonyError, CeremonyKind};
use sealwire_engine::document::OperatorRole::RootOfficer;
use sealwire_manager::{BreakGlass, ClientError, CreateOperator, Warranted};
use sealwire_protocol::ErrorCode;
use support::Server;
use support::officer::{Kept, Officers, Tokens, card_bytes};

const PASSWORD: &str = "amber canal spruce orbit";

/// A server with a root key on three cards, two of which are needed, and an operator who has forgotten the password.
async fn site() -> (Server, Officers, Vec<Kept>) {
    let server = Server::sealed("");
    let officers = Officers::of(&server, Tokens::new(&[]));
    let cards = officers.init("2", &["f1", "f2", "f3"]);
    server.wait_for_site().await;
    let (name, roles) = ("alice".to_owned(), vec![RootOfficer]);
    let alice =
        CreateOperator { name, roles, password: "forgotten canal spruce".to_owned().into() };
    server.manager().create_operator(&alice).await.expect("the first");
    (server, officers, cards)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quorum_of_cards_makes_a_root_officer_and_less_does_not() {
    let (server, officers, cards) = site().await;
    let password = officers.pockets.path().join("password");
    std::fs::write(&password, PASSWORD).expect("written");
    let password = password.to_str().expect("text");
    let record = officers.pockets.path().join("record.txt");
    let args = ["break-glass", "carol", "--password-file", password];
    let one = [&args[..], &officers.show(&cards[..1])].concat();
    let said = officers.refused(&one);
    assert!(said.contains("1 of 2"), "{said}");
    // Somebody else's cards.
    let other = Server::sealed("");
    let strangers = Officers::of(&other, Tokens::new(&[]));
    let theirs = strangers.init("2", &["f1", "f2"]);
    officers.refused(&[&args[..], &strangers.show(&theirs)].concat());
    let tried = server.manager().sign_in("carol", PASSWORD.to_owned().into()).await;
    assert!(tried.is_err(), "not made yet");
    let record_arg = ["--transcript", record.to_str().expect("text")];
    let said = officers.ok(&[&args[..], &officers.show(&cards[1..]), &record_arg].concat());
    assert!(said.contains("make the root-officer \"carol\""), "{said}");
    let recorded = std::fs::read_to_string(&record).expect("a record");
    assert!(recorded.contains("break-glass") && !recorded.contains(PASSWORD), "{recorded}");
    let carol = server.manager().sign_in("carol", PASSWORD.to_owned().into()).await.expect("in");
    assert_eq!(carol.operator.roles, [RootOfficer]);
    let said = officers.refused(&[&args[..], &officers.show(&cards[..2])].concat());
    assert!(said.contains("exists already"), "{said}");
    assert!(!server.log().contains(PASSWORD));
}

fn number<T>(result: Result<T, ClientError>) -> Option<u16> {
    match result {
        Err(ClientError::Refused { number, .. }) => Some(number),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warrant_is_good_for_its_words_and_once() {
    let (server, _officers, cards) = site().await;
    let manager = server.manager();
    let who = |name: &str| BreakGlass { name: name.into(), password: PASSWORD.to_owned().into() };
    let carol = manager.ask_break_glass(&who("carol")).await.expect("asked").statement;
    let dave = manager.ask_break_glass(&who("dave")).await.expect("asked").statement;
    let shown: Vec<_> = cards[..2]
        .iter()
        .map(|card| (card_bytes(card), std::fs::read_to_string(&card.pin).expect("a pin")))
        .collect();
    // What was shown for another ceremony does not count for this one.
    let mut verify = server.ceremony().begin(CeremonyKind::Verify).await.expect("begun");
    for (card, pin) in &shown {
        verify.show(card, pin.trim()).await.expect("shown");
    }
    assert!(matches!(verify.warrant(&carol).await, Err(CeremonyError::Refused(_))));
    let mut ceremony = server.ceremony().begin(CeremonyKind::Warrant).await.expect("begun");
    let early = ceremony.warrant(&carol).await;
    assert!(matches!(early, Err(CeremonyError::Refused(_))), "no card was shown");
    for (card, pin) in &shown {
        ceremony.show(card, pin.trim()).await.expect("shown");
    }
    let warrant = ceremony.warrant(&carol).await.expect("allowed");
    let again = ceremony.warrant(&dave).await;
    assert!(matches!(again, Err(CeremonyError::Refused(_))), "a quorum allows one thing");
    let present = |statement: &str, warrant: &[u8]| Warranted {
        statement: statement.to_owned(),
        warrant: STANDARD.encode(warrant),
    };
    let refused = Some(ErrorCode::NO_WARRANT.0);
    for (statement, warrant) in [
        (dave.as_str(), warrant.to_vec()),
        (&carol.replace("carol", "mallory"), warrant.to_vec()),
        (&carol, [warrant[..31].to_vec(), vec![warrant[31] ^ 1]].concat()),
        ("", vec![0; 32]),
    ] {
        let tried = manager.break_glass(&present(statement, &warrant)).await;
        assert_eq!(number(tried), refused, "{statement}");
    }
    manager.break_glass(&present(&carol, &warrant)).await.expect("made");
    let again = manager.break_glass(&present(&carol, &warrant)).await;
    assert_eq!(number(again), Some(ErrorCode::MALFORMED_BODY.0), "once");
}
