//! What every keystore keeps of tokens, run over SQLite and over MariaDB.

#[path = "support/mariadb.rs"]
mod mariadb;
#[path = "support/place.rs"]
mod place;

use place::{Place, over_both};
use sealwire_keystore::TokenRow;

over_both!(
    a_token_is_found_by_its_hash_renewed_and_removed,
    an_app_has_so_many_tokens_and_no_more,
    tokens_whose_time_is_over_are_swept,
);

fn token(number: u8, app: &str, expires: u64) -> TokenRow {
    TokenRow { hash: [number; 32], app: app.into(), record: vec![number; 300], expires }
}

async fn a_token_is_found_by_its_hash_renewed_and_removed(place: Place) {
    let keystore = place.open().await;
    let (one, other) = (token(1, "ak_1", 100), token(2, "ak_2", 100));
    for row in [&one, &other] {
        assert!(keystore.put_token(row, 0, 10).await.expect("writes"));
        assert_eq!(keystore.token(&row.hash).await.expect("reads").as_ref(), Some(row));
    }
    let again = keystore.put_token(&one, 0, 10).await;
    assert!(again.is_err(), "{again:?}");
    let renewed = TokenRow { record: vec![9; 200], expires: 200, ..one.clone() };
    assert!(keystore.renew_token(&renewed).await.expect("writes"));
    assert_eq!(keystore.token(&one.hash).await.expect("reads"), Some(renewed));
    let asked = [one.hash, [7; 32], other.hash];
    let mut left = keystore.tokens_left(&asked).await.expect("reads");
    left.sort_unstable();
    assert_eq!(left, [one.hash, other.hash]);
    keystore.remove_token(&one.hash).await.expect("writes");
    keystore.remove_token(&one.hash).await.expect("nothing to do");
    assert_eq!(keystore.token(&one.hash).await.expect("reads"), None);
    assert_eq!(keystore.tokens_left(&asked).await.expect("reads"), [other.hash]);
    assert!(!keystore.renew_token(&one).await.expect("writes"), "what is gone stays gone");
    assert!(keystore.tokens_left(&[]).await.expect("reads").is_empty());
}

async fn an_app_has_so_many_tokens_and_no_more(place: Place) {
    let keystore = place.open().await;
    for number in 1..=3 {
        assert!(keystore.put_token(&token(number, "ak_1", 100), 50, 3).await.expect("writes"));
    }
    assert!(!keystore.put_token(&token(4, "ak_1", 100), 50, 3).await.expect("asks"));
    assert_eq!(keystore.token(&[4; 32]).await.expect("reads"), None);
    assert!(keystore.put_token(&token(5, "ak_2", 100), 50, 3).await.expect("writes"));
    // When their time is over, they do not count.
    assert!(keystore.put_token(&token(4, "ak_1", 200), 100, 3).await.expect("writes"));
}

async fn tokens_whose_time_is_over_are_swept(place: Place) {
    let keystore = place.open().await;
    for (number, expires) in [(1, 10), (2, 20), (3, 30)] {
        keystore.put_token(&token(number, "ak_1", expires), 0, 10).await.expect("writes");
    }
    assert_eq!(keystore.sweep_tokens(20).await.expect("writes"), 2);
    assert_eq!(keystore.sweep_tokens(20).await.expect("writes"), 0);
    assert_eq!(keystore.tokens_left(&[[1; 32], [2; 32], [3; 32]]).await.expect("reads"), [[3; 32]]);
}
