"""A mail server on loopback: prints its port, keeps what arrives as lines of JSON."""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

SECURITY, FOLDER, REFUSALS = sys.argv[1], sys.argv[2], int(sys.argv[3])


class Handler:
    refusals = REFUSALS

    async def handle_DATA(self, server, session, envelope):
        if self.refusals > 0:
            self.refusals -= 1
            return "451 CANARY-WORDS try again"
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "content": envelope.content.decode("utf-8"),
            "login": session.auth_data.login.decode() if session.auth_data else None,
            "security": SECURITY if session.ssl or SECURITY == "tls" else "none",
        }
        with open(f"{FOLDER}/mails", "a") as file:
            file.write(json.dumps(mail) + "\n")
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = (
        isinstance(data, LoginPassword)
        and data.login == b"kindpack"
        and data.password == b"CANARY-PASSWORD"
    )
    return AuthResult(success=good, handled=False, auth_data=data if good else None)


async def serve():
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(f"{FOLDER}/server.pem", f"{FOLDER}/server.key")
    handler = Handler()

    def connect():
        return SMTP(
            handler,
            tls_context=context if SECURITY == "starttls" else None,
            require_starttls=SECURITY == "starttls",
            authenticator=authenticate,
            auth_required=SECURITY != "none",
            auth_require_tls=SECURITY == "starttls",
        )

    implicit = context if SECURITY == "tls" else None
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connect, "127.0.0.1", 0, ssl=implicit)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
