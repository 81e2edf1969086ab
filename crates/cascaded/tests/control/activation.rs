//! Sockets passed by a service manager.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;

use cascade_api::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, ZONE, query};

#[tokio::test]
async fn passed_sockets_serve_and_outlive_the_daemon() {
    let mut d = Daemon::start().await;
    d.stop();
    assert!(!d.path("socket").exists(), "its own socket goes with it");

    // One by name, two by address; what is not passed is bound.
    let control = UnixListener::bind(d.path("socket")).unwrap();
    let tcp = TcpListener::bind(("127.0.0.1", d.dns)).unwrap();
    let udp = UdpSocket::bind(("127.0.0.1", d.dns)).unwrap();
    for round in 0..2 {
        let sockets = [
            control.try_clone().unwrap().into(),
            tcp.try_clone().unwrap().into(),
            udp.try_clone().unwrap().into(),
        ];
        d.run_with(sockets, "control:unknown:unknown").await;
        if round == 0 {
            let file = d.zone_file("zone", ZONE);
            d.published("example.net", &file).await;
        }
        let soa = query(&d, b"\x07example\x03net\0\0\x06\0\x01").await;
        assert_eq!(
            (soa[3] & 15, soa[7] > 0),
            (0, true),
            "over the passed TCP socket"
        );
        let asked = UdpSocket::bind("127.0.0.1:0").unwrap();
        let question = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x07example\x03net\0\0\x06\0\x01";
        asked.send_to(question, ("127.0.0.1", d.dns)).unwrap();
        asked
            .set_read_timeout(Some(std::time::Duration::from_secs(5)))
            .unwrap();
        let mut answer = [0; 512];
        assert!(
            asked.recv(&mut answer).unwrap() > 12,
            "over the passed UDP socket"
        );
        // Of the list that was not passed.
        assert!(
            d.tcp::<Value>(None, Method::Get, "/v1/status", ())
                .await
                .is_ok()
        );
        let status: Value = d.get("/v1/status").await;
        let served = format!("127.0.0.1:{}", d.dns);
        assert_eq!(status["addresses"]["server"], json!([served]));
        d.stop();
        assert!(d.path("socket").exists(), "the manager's socket stays");
    }
}
