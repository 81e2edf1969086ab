//! Examples of RFC 5702 §6, RFC 6605 §6 and RFC 8080 §6.
#![allow(clippy::unwrap_used)]

use aws_lc_rs::signature::{
    RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, RsaPublicKeyComponents,
};
use cascade_crypto::{Algorithm, DigestType, Dnskey, ds_digest, push_ds_rdata, verify};
use cascade_time::Timestamp;
use cascade_zone::Name;
use data_encoding::{BASE64, HEXLOWER};

fn key(flags: u16, algorithm: Algorithm, base64: &str) -> Dnskey {
    let key = Dnskey::new(flags, algorithm, &BASE64.decode(base64.as_bytes()).unwrap());
    assert_eq!(Dnskey::from_rdata(key.rdata()).as_ref(), Ok(&key));
    key
}

struct Signed<'a> {
    owner: &'a str,
    signer: &'a str,
    rtype: u16,
    rdata: &'a [u8],
    labels: u8,
    expiration: &'a str,
    inception: &'a str,
}

/// RFC 4034 §3.1.8.1 for an RRset of one record with TTL 3600.
fn preimage(key: &Dnskey, s: &Signed<'_>) -> Vec<u8> {
    let time = |t| Timestamp::parse_dns(t).unwrap().to_wire().to_be_bytes();
    let mut m = s.rtype.to_be_bytes().to_vec();
    m.extend([key.algorithm_number(), s.labels]);
    m.extend(3600u32.to_be_bytes());
    m.extend(time(s.expiration));
    m.extend(time(s.inception));
    m.extend(key.key_tag().to_be_bytes());
    m.extend(Name::parse(s.signer).unwrap().as_wire());
    m.extend(Name::parse(s.owner).unwrap().as_wire());
    m.extend(s.rtype.to_be_bytes());
    m.extend([0, 1]);
    m.extend(3600u32.to_be_bytes());
    m.extend((s.rdata.len() as u16).to_be_bytes());
    m.extend(s.rdata);
    m
}

fn check(key: &Dnskey, s: &Signed<'_>, signature: &str) {
    let message = preimage(key, s);
    let mut signature = BASE64.decode(signature.as_bytes()).unwrap();
    assert!(verify(key, &message, &signature));
    signature[3] ^= 1;
    assert!(!verify(key, &message, &signature));
}

#[test]
fn rfc5702() {
    let rsa256 = key(
        256,
        Algorithm::RsaSha256,
        "AwEAAcFcGsaxxdgiuuGmCkVImy4h99CqT7jwY3pexPGcnUFtR2Fh36BponcwtkZ4cAgtvd4Qs8PkxUdp6p/DlUmObdk=",
    );
    assert_eq!(rsa256.key_tag(), 9033);
    assert_eq!(rsa256.signature_len(), Some(64));
    let rsa512 = key(
        256,
        Algorithm::RsaSha512,
        "AwEAAdHoNTOW+et86KuJOWRDp1pndvwb6Y83nSVXXyLA3DLroROUkN6X0O6pnWnjJQujX/AyhqFDxj13tOnD9u/1kTg7\
         cV6rklMrZDtJCQ5PCl/D7QNPsgVsMu1J2Q8gpMpztNFLpPBz1bWXjDtaR7ZQBlZ3PFY12ZTSncorffcGmhOL",
    );
    assert_eq!(rsa512.key_tag(), 3740);
    let s = Signed {
        owner: "www.example.net.",
        signer: "example.net.",
        rtype: 1,
        rdata: &[192, 0, 2, 91],
        labels: 3,
        expiration: "20300101000000",
        inception: "20000101000000",
    };
    let signature = BASE64
        .decode(
            b"tsb4wnjRUDnB1BUi+t6TMTXThjVnG+eCkWqjvvjhzQL1d0YRoOe0CbxrVDYd0xDtsuJRaeUw1ep94PzEWzr0iGYg\
              ZBWm/zpq+9fOuagYJRfDqfReKBzMweOLDiNa8iP5g9vMhpuv6OPlvpXwm9Sa9ZXIbNl1MBGk0fthPgxdDLw=",
        )
        .unwrap();
    // The example's 1024 bits are below what `verify` accepts, so the library is asked directly.
    let public = RsaPublicKeyComponents {
        e: &rsa512.public_key()[1..4],
        n: &rsa512.public_key()[4..],
    };
    let parameters = &RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY;
    assert!(
        public
            .verify(parameters, &preimage(&rsa512, &s), &signature)
            .is_ok()
    );
    assert!(!verify(&rsa512, &preimage(&rsa512, &s), &signature));
}

#[test]
fn rfc6605() {
    let zone = Name::parse("example.net.").unwrap();
    let p256 = key(
        257,
        Algorithm::EcdsaP256Sha256,
        "GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==",
    );
    let mut ds = Vec::new();
    push_ds_rdata(&zone, &p256, DigestType::Sha256, &mut ds);
    assert_eq!(ds[..4], [0xd9, 0x60, 13, 2]); // 55648
    assert_eq!(
        HEXLOWER.encode(&ds[4..]),
        "b4c8c1fe2e7477127b27115656ad6256f424625bf5c1e2770ce6d6e37df61d17"
    );
    let s = Signed {
        owner: "www.example.net.",
        signer: "example.net.",
        rtype: 1,
        rdata: &[192, 0, 2, 1],
        labels: 3,
        expiration: "20100909100439",
        inception: "20100812100439",
    };
    check(
        &p256,
        &s,
        "qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw==",
    );
    let p384 = key(
        257,
        Algorithm::EcdsaP384Sha384,
        "xKYaNhWdGOfJ+nPrL8/arkwf2EY3MDJ+SErKivBVSum1w/egsXvSADtNJhyem5RCOpgQ6K8X1DRSEkrbYQ+OB+v8/uX4\
         5NBwY8rp65F6Glur8I/mlVNgF6W/qTI37m40",
    );
    assert_eq!(p384.key_tag(), 10771);
    assert_eq!(
        HEXLOWER.encode(&ds_digest(&zone, &p384, DigestType::Sha384)),
        "72d7b62976ce06438e9c0bf319013cf801f09ecc84b8d7e9495f27e305c6a9b0563a9b5f4d288405c3008a946df983d6"
    );
    check(
        &p384,
        &Signed {
            expiration: "20100909102025",
            inception: "20100812102025",
            ..s
        },
        "/L5hDKIvGDyI1fcARX3z65qrmPsVz73QD1Mr5CEqOiLP95hxQouuroGCeZOvzFaxsT8Glr74hbavRKayJNuydCuzWTSS\
         Pdz7wnqXL5bdcJzusdnI0RSMROxxwGipWcJm",
    );
}

#[test]
fn rfc8080() {
    let zone = Name::parse("EXAMPLE.com.").unwrap();
    let mx = b"\x00\x0a\x04mail\x07example\x03com\x00";
    let s = Signed {
        owner: "example.com.",
        signer: "example.com.",
        rtype: 15,
        rdata: mx,
        labels: 2,
        expiration: "20150819220000",
        inception: "20150729220000",
    };
    for (public, tag, digest, signature) in [
        (
            "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
            3613,
            "3aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b",
            "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg==",
        ),
        (
            "zPnZ/QwEe7S8C5SPz2OfS5RR40ATk2/rYnE9xHIEijs=",
            35217,
            "401781b934e392de492ec77ae2e15d70f6575a1c0bc59c5275c04ebe80c6614c",
            "zXQ0bkYgQTEFyfLyi9QoiY6D8ZdYo4wyUhVioYZXFdT410QPRITQSqJSnzQoSm5poJ7gD7AQR0O7KuI5k2pcBg==",
        ),
    ] {
        let k = key(257, Algorithm::Ed25519, public);
        assert_eq!(k.key_tag(), tag);
        assert_eq!(
            HEXLOWER.encode(&ds_digest(&zone, &k, DigestType::Sha256)),
            digest
        );
        check(&k, &s, signature);
    }
}
