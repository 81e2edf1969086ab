#!/usr/bin/env python3
"""Interoperation of crate `kmip` with PyKMIP, in both directions, over pipes.

1. PyKMIP's client against our server with a token in memory: Discover Versions, Query, Create Key
   Pair, Activate, Get, Get Attributes, Locate, Sign, Signature Verify, Revoke, Destroy, for RSA,
   P-256 and P-384, in every version from 1.0 to 1.4.
2. Our client against PyKMIP's server: the life of an RSA key.

TLS is left out on purpose: it is not part of the crate.

Usage: kmip_pykmip.py [PATH OF kmip-pipe]. Without a path the example is built with cargo.
Exit status: 0 good or skipped (with a line that says so), 1 bad.
"""

import hashlib
import os
import struct
import subprocess
import sys
import tempfile
import warnings

# PyKMIP is older than what it stands on.
warnings.simplefilter("ignore")

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
    from kmip.core import enums, exceptions, utils as kmip_utils
    from kmip.core.factories.attributes import AttributeFactory
    from kmip.core.messages import contents, messages
    from kmip.pie.client import ProxyKmipClient
    from kmip.pie.exceptions import KmipOperationFailure
    from kmip.services.kmip_protocol import KMIPProtocol
    from kmip.services.server.engine import KmipEngine
except ImportError as error:
    print(f"SKIPPED: PyKMIP is not installed ({error}); pip install pykmip")
    sys.exit(0)

V = enums.KMIPVersion


def find_binary():
    if len(sys.argv) > 1:
        return sys.argv[1]
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
    subprocess.run(
        ["cargo", "build", "--quiet", "-p", "cascade-kmip", "--example", "kmip-pipe"],
        cwd=root,
        check=True,
    )
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(root, "target"))
    return os.path.join(target, "debug", "examples", "kmip-pipe")


class Pipes:
    """What PyKMIP takes for a socket."""

    def __init__(self, process):
        self.process = process

    def sendall(self, octets):
        self.process.stdin.write(octets)
        self.process.stdin.flush()

    def recv(self, most):
        return self.process.stdout.read(most)

    def shutdown(self, how):
        pass

    def close(self):
        pass


def connect(process, version, password="1234"):
    client = ProxyKmipClient(username="LocalHSM", password=password, kmip_version=version)
    client.proxy.protocol = KMIPProtocol(Pipes(process))
    client._is_open = True
    return client


def expect_failure(reason, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except KmipOperationFailure as failure:
        assert failure.reason == reason, f"{failure.reason} instead of {reason}"
        return
    raise AssertionError(f"{call.__name__} succeeded instead of failing with {reason}")


def verify(key, message, signature):
    """Judges a signature with a third library."""
    if key.cryptographic_algorithm == enums.CryptographicAlgorithm.RSA:
        public = serialization.load_der_public_key(spki_of_pkcs1(key.value))
        public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        return
    public = serialization.load_der_public_key(key.value)
    half = len(signature) // 2
    assert len(signature) == {256: 64, 384: 96}[key.cryptographic_length]
    r, s = (int.from_bytes(signature[a : a + half], "big") for a in (0, half))
    digest = {256: hashes.SHA256(), 384: hashes.SHA384()}[key.cryptographic_length]
    public.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(digest))


def spki_of_pkcs1(octets):
    def der(kind, value):
        length = len(value)
        head = bytes([length]) if length < 128 else b"\x82" + struct.pack("!H", length)
        return bytes([kind]) + head + value

    algorithm = der(0x30, bytes.fromhex("06092a864886f70d0101010500"))
    return der(0x30, algorithm + der(0x03, b"\0" + octets))


def their_client(binary):
    process = subprocess.Popen([binary, "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        for version in (V.KMIP_1_0, V.KMIP_1_1, V.KMIP_1_2, V.KMIP_1_3, V.KMIP_1_4):
            wrong = connect(process, version, password="4321")
            denied = enums.ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
            expect_failure(denied, wrong.locate)

            client = connect(process, version)
            check_query(client, version)
            for algorithm, bits, hashing in (
                (enums.CryptographicAlgorithm.RSA, 2048, enums.HashingAlgorithm.SHA_256),
                (enums.CryptographicAlgorithm.ECDSA, 256, enums.HashingAlgorithm.SHA_256),
                (enums.CryptographicAlgorithm.ECDSA, 384, enums.HashingAlgorithm.SHA_384),
            ):
                life_of_a_key(client, version, algorithm, bits, hashing)
            print(f"PyKMIP's client, our server, {version.name}: good")
    finally:
        process.stdin.close()
        assert process.wait(10) == 0, "our server ended badly"


def check_query(client, version):
    if version >= V.KMIP_1_1:
        found = client.proxy.discover_versions(credential=credential_of(client))
        assert found.result_status.value == enums.ResultStatus.SUCCESS
        spoken = [(v.major, v.minor) for v in found.protocol_versions]
        assert spoken == [(1, 4), (1, 3), (1, 2), (1, 1), (1, 0)], spoken
    result = client.proxy.query(
        query_functions=[
            enums.QueryFunction.QUERY_OPERATIONS,
            enums.QueryFunction.QUERY_OBJECTS,
            enums.QueryFunction.QUERY_SERVER_INFORMATION,
        ],
        credential=credential_of(client),
    )
    assert result.result_status.value == enums.ResultStatus.SUCCESS, result.result_message
    assert "using PKCS#11 token with label LocalHSM" in str(result.vendor_identification)
    signs = enums.Operation.SIGN in result.operations
    assert signs == (version >= V.KMIP_1_2), result.operations


def credential_of(client):
    from kmip.core.factories.credentials import CredentialFactory

    return CredentialFactory().create_credential(
        enums.CredentialType.USERNAME_AND_PASSWORD,
        {"Username": client.proxy.username, "Password": client.proxy.password},
    )


def life_of_a_key(client, version, algorithm, bits, hashing):
    public, private = client.create_key_pair(
        algorithm,
        bits,
        public_name="example.net-1-zsk-pub",
        public_usage_mask=[enums.CryptographicUsageMask.VERIFY],
        private_name="example.net-1-zsk-pri",
        private_usage_mask=[enums.CryptographicUsageMask.SIGN],
    )
    assert private[:-5] == public[:-4] and len(private) == 45, (private, public)
    client.activate(private)
    client.activate(public)

    key = client.get(public)
    assert key.cryptographic_algorithm == algorithm
    assert key.cryptographic_length == bits
    expect_failure(enums.ResultReason.PERMISSION_DENIED, client.get, private)

    # By name: PyKMIP's client cannot read Cryptographic Domain Parameters.
    names = ["State", "Object Type", "Name"]
    _, attributes = client.get_attributes(private, names)
    found = {str(a.attribute_name): a.attribute_value for a in attributes}
    assert found["State"].value == enums.State.ACTIVE, found
    assert found["Object Type"].value == enums.ObjectType.PRIVATE_KEY, found
    assert found["Name"].name_value.value == "example.net-1-zsk-pri", found

    name = AttributeFactory().create_attribute(
        enums.AttributeType.NAME, "example.net-1-zsk-pri"
    )
    assert client.locate(attributes=[name]) == [private]

    parameters = {"cryptographic_algorithm": algorithm, "hashing_algorithm": hashing}
    if algorithm == enums.CryptographicAlgorithm.RSA:
        parameters["padding_method"] = enums.PaddingMethod.PKCS1v15
    if version >= V.KMIP_1_2:
        message = b"an RRset"
        signature = client.sign(message, private, parameters)
        verify(key, message, signature)
        try:
            verify(key, b"another", signature)
            raise AssertionError("a wrong signature verifies")
        except InvalidSignature:
            pass
        for data, valid in ((message, "VALID"), (b"another", "INVALID")):
            answer = client.signature_verify(data, signature, public, parameters)
            assert answer == enums.ValidityIndicator[valid], answer
        bad = dict(parameters, hashing_algorithm=enums.HashingAlgorithm.SHA_1)
        expect_failure(enums.ResultReason.INVALID_FIELD, client.sign, message, private, bad)
    else:
        unsupported = enums.ResultReason.OPERATION_NOT_SUPPORTED
        expect_failure(unsupported, client.sign, b"x", private, parameters)

    for uid in (private, public):
        client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid, "rolled")
        client.destroy(uid)
        client.destroy(uid)  # gone already is success
    expect_failure(enums.ResultReason.ITEM_NOT_FOUND, client.get, public)


def their_server(binary):
    with tempfile.TemporaryDirectory() as directory:
        engine = KmipEngine(
            policies=standard_policies(), database_path=os.path.join(directory, "pykmip.db")
        )
        process = subprocess.Popen(
            [binary, "client", "RSA-2048", "RSA-2048-SHA512"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        protocol = KMIPProtocol(Pipes(process))
        while True:
            try:
                data = protocol.read()
            except EOFError:
                break
            protocol.write(answer(engine, data))
        process.stdin.close()
        assert process.wait(10) == 0, "our client is not content"
    print("our client, PyKMIP's server: good")


def standard_policies():
    from kmip.core import policy

    return dict(policy.policies) if hasattr(policy, "policies") else None


def answer(engine, data):
    """What PyKMIP's session does with a request, without its socket."""
    request = messages.RequestMessage()
    version = V.KMIP_1_2
    try:
        request.read(data, kmip_version=version)
        response, _, protocol = engine.process_request(request, ("tester", None))
        version = contents.protocol_version_to_kmip_version(protocol)
    except exceptions.KmipError as error:
        response = engine.build_error_response(
            request.request_header.protocol_version, error.reason, str(error)
        )
    stream = kmip_utils.BytearrayStream()
    response.write(stream, kmip_version=version)
    return stream.buffer


def main():
    binary = find_binary()
    their_client(binary)
    their_server(binary)


if __name__ == "__main__":
    main()
