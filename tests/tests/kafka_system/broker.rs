//! A broker that goes away while eight writers write. Frames are held meanwhile; nothing is restarted.

use matyan_tests::{
    kafka::{Broker, scene::Scene},
    load::Load,
};

use crate::{pause, processes::compare, rounds};

const WRITERS_OF_A_KIND: usize = 4;

pub(crate) async fn a_broker_killed_and_restarted_under_load(broker: &mut Broker) {
    let scene = Scene::start(broker, "broker-killed", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_OF_A_KIND);
    for _ in 0..rounds() {
        load.goes_on(200).await;
        tokio::task::block_in_place(|| {
            broker.kill();
            broker.restart();
        });
    }
    load.goes_on(200).await;
    compare(scene, load).await;
}

pub(crate) async fn a_broker_that_pauses_under_load(broker: &mut Broker) {
    let scene = Scene::start(broker, "broker-paused", 3).await;
    let load = Load::start(scene.ingest(), WRITERS_OF_A_KIND);
    load.goes_on(200).await;
    broker.stall();
    // The length of the pause is what is played, not a wait for something.
    tokio::time::sleep(pause()).await;
    broker.go_on();
    load.goes_on(200).await;
    compare(scene, load).await;
}
