//! The entrance, killed at every order of its agent and on the way of a connection. Its agent starts it again, it comes back
//! as it was, no request is answered twice, and who was connected sees a plain end and not a half answer.

use super::{Asking, Table, waits};
use crate::support::payer::Payer;
use crate::support::shop::Shop;

/// Kills at every point of the entrance.
pub(super) fn story(table: &Table, points: &[String]) {
    let Some(mut shop) = Shop::start() else { return };
    let asking = Asking::new();
    shop.run_agent_with(|command| asking.arm(command));
    shop.serve_first();
    let clients = ["a", "b", "c"].map(|name| shop.client_named(name));
    for point in points {
        asking.ask(point);
        let said = act(&mut shop, &asking, point);
        let paid = || clients.iter().map(|client| client.acknowledged().len()).sum::<usize>();
        waits(|| asking.is_hit(), || format!("{point} was never reached: {said}\n{}", shop.agent_output()));
        let before = paid();
        waits(|| shop.version().is_ok(), || format!("{point}: nobody is answered any more\n{}", shop.agent_output()));
        let (phase, version) = shop.settled();
        let known = ["1.0.0", "2.0.0"].contains(&version.as_str());
        assert!(phase == "serving" && known, "{point}: {phase} {version}\n{}", shop.agent_output());
        waits(|| paid() > before, || format!("{point}: nobody can pay any more\n{}", shop.agent_output()));
        let odd: Vec<String> = clients.iter().flat_map(Payer::odd).collect();
        assert_eq!(odd, [""; 0], "{point}: answers that are neither whole nor a plain end");
        table.line(point, "entrance", &format!("{version} serves"), "started again, none answered twice, none lost");
        table.reached(point);
    }
    let acknowledged: Vec<String> = clients.into_iter().flat_map(Payer::end).collect();
    let mut book = shop.book();
    let missing: Vec<&String> = acknowledged.iter().filter(|payment| !book.contains(payment)).collect();
    assert!(missing.is_empty(), "payments are gone: {missing:?}");
    let all = book.len();
    book.sort();
    book.dedup();
    assert_eq!(book.len(), all, "a payment stands twice in the book: a request was sent twice");
}

/// What comes by a point.
fn act(shop: &mut Shop, asking: &Asking, point: &str) -> String {
    match point.split(':').next().unwrap_or(point) {
        // The agent opens its ports when it starts.
        "entrance-open" => {
            shop.kill_agent();
            shop.run_agent_with(|command| asking.arm(command));
            String::new()
        }
        "entrance-came-back" => {
            assert!(crate::storm::kill_entrance(&shop.state()), "there is an entrance");
            String::new()
        }
        "entrance-route" | "entrance-hold" | "entrance-drain" | "entrance-release" | "entrance-note-half" => {
            let to = if shop.version().is_ok_and(|version| version == "1.0.0") { "2.0.0" } else { "1.0.0" };
            shop.say(&["node", "switch", "--to", to, "--no-wait"])
        }
        "entrance-accepted" | "entrance-joined" | "entrance-asked" | "entrance-answered" => String::new(),
        point => panic!("no scene comes by the entrance's point {point}"),
    }
}
