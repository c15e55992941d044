//! A store whose file was damaged is cold or right, whether or not its stamp tells of it.

use super::crash::Chain;
use crate::Counts;

/// Numbers that look random and are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const PAGE: usize = 4096;

#[test]
fn a_damaged_store_is_cold_or_right() {
    let full = std::env::var("CLNRM_PROOF").is_ok_and(|size| size == "full");
    let rounds = if full { 3_200 } else { 400 };
    let chain = Chain::new(40);
    chain.settle(Some(&chain.store())).1.commit();
    let old = std::fs::read(chain.store()).unwrap();
    (0..40).step_by(7).for_each(|number| chain.write(number, "second"));
    let (expected, mut engine) = chain.settle(Some(&chain.store()));
    engine.commit();
    let sound = std::fs::read(chain.store()).unwrap();
    let mut random = Random(1);
    let (mut warm, mut unseen) = (0, 0);
    for round in 0..rounds {
        let mut bytes = sound.clone();
        let at = random.below(bytes.len());
        let page = at / PAGE * PAGE;
        let what = ["bit", "length", "zeros", "page moved", "old page", "old copy", "other file"];
        match round % what.len() {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => bytes[page..].iter_mut().take(PAGE).for_each(|byte| *byte = 0),
            3 => {
                let from = random.below(bytes.len() / PAGE) * PAGE;
                bytes.copy_within(from..from + PAGE, page);
            }
            4 => {
                if let Some(before) = old.get(page..page + PAGE) {
                    bytes[page..page + PAGE].copy_from_slice(before);
                }
            }
            5 => bytes = old.clone(),
            _ => bytes = vec![round as u8; at],
        }
        let seen_by_stamp = random.below(2) == 0;
        let at =
            format!("round {round}, {} at {at}, seen by stamp: {seen_by_stamp}", what[round % 7]);
        std::fs::write(chain.store(), bytes).unwrap();
        if !seen_by_stamp {
            crate::store::stamp_as_left(&chain.store());
            unseen += 1;
        }
        let (seen, mut engine) = chain.settle(Some(&chain.store()));
        assert_eq!(seen, expected, "{at}");
        warm += u32::from(Counts::of(&engine.take_events()).executed == 0);
        engine.commit();
        drop(engine);
        let (seen, mut engine) = chain.settle(Some(&chain.store()));
        assert_eq!(seen, expected, "after {at}");
        engine.commit();
        drop(engine);
        let (seen, engine) = chain.settle(Some(&chain.store()));
        assert_eq!(seen, expected, "after {at}");
        assert_eq!(Counts::of(&engine.take_events()).executed, 0, "it is mended after {at}");
    }
    println!(
        "{rounds} damaged stores, {unseen} of them behind a good stamp; {warm} needed nothing"
    );
}
