#!/usr/bin/env python3
"""PyKMIP's client against the program `kmip2pkcs11` in front of SoftHSM, over TLS.

Query, Create Key Pair (EC and RSA), Activate, Get, Sign, Revoke, Destroy.

Usage: bridge_pykmip.py PROGRAM [MODULE].
Exit status: 0 good or skipped (with a line that says so), 1 bad.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import kmip_pykmip as both

from kmip.core import enums
from kmip.pie.client import ProxyKmipClient

V = enums.KMIPVersion
PIN = "123456"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
)


def start(program, module, directory):
    conf = os.path.join(directory, "softhsm2.conf")
    tokens = os.path.join(directory, "tokens")
    os.mkdir(tokens)
    with open(conf, "w") as out:
        out.write(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "LocalHSM"]
        + ["--so-pin", "1234", "--pin", PIN],
        env=dict(os.environ, SOFTHSM2_CONF=conf),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = os.path.join(directory, "config.toml")
    with open(config, "w") as out:
        out.write(f'lib_path = "{module}"\nport = {port}\ntls_dir = "{directory}"\n')
        out.write(f'module_env = {{ SOFTHSM2_CONF = "{conf}" }}\n')
    process = subprocess.Popen([program, "--config", config, "--stderr", "-q"])
    for _ in range(200):
        try:
            # The certificate is there a moment after the port.
            with open(os.path.join(directory, "server.pem")):
                socket.create_connection(("127.0.0.1", port)).close()
            return process, port
        except OSError:
            assert process.poll() is None, "the program ended"
            time.sleep(0.05)
    process.kill()
    raise AssertionError("the program does not listen")


def connect(port, directory, version, password=PIN):
    client = ProxyKmipClient(
        hostname="127.0.0.1",
        port=port,
        ca=os.path.join(directory, "server.pem"),
        # PyKMIP insists on a certificate of its own; the server does not look at it.
        cert=os.path.join(directory, "server.pem"),
        key=os.path.join(directory, "server.pem"),
        username="LocalHSM",
        password=password,
        config_file=os.devnull,
        kmip_version=version,
    )
    client.open()
    return client


def life_of_a_key(client, algorithm, bits, hashing):
    public, private = client.create_key_pair(
        algorithm,
        bits,
        public_name="zone-pub",
        public_usage_mask=[enums.CryptographicUsageMask.VERIFY],
        private_name="zone-pri",
        private_usage_mask=[enums.CryptographicUsageMask.SIGN],
    )
    assert private[:-5] == public[:-4] and len(private) == 45, (private, public)
    client.activate(private)
    key = client.get(public)
    assert key.cryptographic_length == bits
    parameters = {"cryptographic_algorithm": algorithm, "hashing_algorithm": hashing}
    if algorithm == enums.CryptographicAlgorithm.RSA:
        parameters["padding_method"] = enums.PaddingMethod.PKCS1v15
    both.verify(key, b"an RRset", client.sign(b"an RRset", private, parameters))
    for uid in (private, public):
        client.revoke(enums.RevocationReasonCode.CESSATION_OF_OPERATION, uid, "rolled")
        client.destroy(uid)
    both.expect_failure(enums.ResultReason.ITEM_NOT_FOUND, client.get, public)


def main():
    program = sys.argv[1]
    modules = sys.argv[2:] or MODULES
    module = next((os.path.realpath(m) for m in modules if os.path.exists(m)), None)
    if module is None or shutil.which("softhsm2-util") is None:
        print("SKIPPED: SoftHSM is not installed (apt-get install softhsm2)")
        return
    algorithm, hashing = enums.CryptographicAlgorithm, enums.HashingAlgorithm
    with tempfile.TemporaryDirectory() as directory:
        process, port = start(program, module, directory)
        try:
            for version in (V.KMIP_1_2, V.KMIP_1_3, V.KMIP_1_4):
                client = connect(port, directory, version)
                both.check_query(client, version)
                life_of_a_key(client, algorithm.ECDSA, 256, hashing.SHA_256)
                life_of_a_key(client, algorithm.ECDSA, 384, hashing.SHA_384)
                life_of_a_key(client, algorithm.RSA, 2048, hashing.SHA_256)
                client.close()
                print(f"PyKMIP's client, kmip2pkcs11, {version.name}: good")
            wrong = connect(port, directory, V.KMIP_1_2, password="654321")
            denied = enums.ResultReason.AUTHENTICATION_NOT_SUCCESSFUL
            both.expect_failure(denied, wrong.locate)
            wrong.close()
        finally:
            process.terminate()
            assert process.wait(20) == 0, "the program ended badly"


if __name__ == "__main__":
    main()
