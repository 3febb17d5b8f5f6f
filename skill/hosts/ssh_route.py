"""Decide whether fabric can log in to a host just as OpenSSH would, or OpenSSH itself is needed. Pure.

Fabric is the rule. Every option that differs from OpenSSH's defaults is either carried out here or means nothing to a
command without a terminal; with any other one, OpenSSH goes itself, so that an option that nobody thought of has its
meaning, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from skill.hosts.ssh_keys import Identity, is_plain
from skill.hosts.ssh_settings import Settings

_CARRIED = frozenset({
    "host", "hostname", "user", "port", "identityfile", "identitiesonly", "identityagent", "proxyjump", "proxycommand",
    "userknownhostsfile", "globalknownhostsfile", "hostkeyalias", "stricthostkeychecking", "connecttimeout",
    "serveraliveinterval", "serveralivecountmax", "setenv", "sendenv",
})  # fmt: skip
_NOTHING_HERE = frozenset({
    # asked, shown and forwarded is nothing here
    "batchmode", "numberofpasswordprompts", "passwordauthentication", "kbdinteractiveauthentication",
    "kbdinteractivedevices", "challengeresponseauthentication", "visualhostkey", "fingerprinthash", "loglevel",
    "logverbose", "syslogfacility", "escapechar", "enableescapecommandline", "requesttty", "remotecommand",
    "sessiontype", "stdinnull", "forkafterauthentication", "clearallforwardings", "exitonforwardfailure",
    "forwardagent", "forwardx11", "forwardx11trusted", "forwardx11timeout", "gatewayports", "localforward",
    "remoteforward", "dynamicforward", "permitremoteopen", "streamlocalbindmask", "streamlocalbindunlink", "tunnel",
    "tunneldevice", "xauthlocation", "localcommand", "permitlocalcommand", "obscurekeystroketiming",
    # has been carried out by ssh -G
    "canonicalizehostname", "canonicaldomains", "canonicalizefallbacklocal", "canonicalizemaxdots",
    "canonicalizepermittedcnames", "tag",
    # how a connection is shared, kept or filled, and not whose it is
    "controlmaster", "controlpath", "controlpersist", "compression", "tcpkeepalive", "ipqos", "rekeylimit",
    "connectionattempts", "addkeystoagent", "hashknownhosts", "updatehostkeys", "checkhostip", "warnweakcrypto",
    # of logins that are not taken unless they are switched on, which has a line of its own
    "gssapidelegatecredentials", "gssapitrustdns", "gssapirenewalforcesrekey", "gssapikexalgorithms",
    "gssapikeyexchange", "gssapiclientidentity", "gssapiserveridentity", "hostbasedacceptedalgorithms",
    "enablesshkeysign", "securitykeyprovider", "preferredauthentications", "gssapiauthentication",
})  # fmt: skip
_NAMES = {
    "knownhostscommand": "KnownHostsCommand", "bindaddress": "BindAddress", "bindinterface": "BindInterface",
    "addressfamily": "AddressFamily", "pkcs11provider": "PKCS11Provider",
    "certificatefile": "CertificateFile", "hostbasedauthentication": "HostbasedAuthentication",
    "pubkeyauthentication": "PubkeyAuthentication", "hostkeyalgorithms": "HostKeyAlgorithms", "ciphers": "Ciphers",
    "kexalgorithms": "KexAlgorithms", "macs": "MACs", "pubkeyacceptedalgorithms": "PubkeyAcceptedAlgorithms",
    "verifyhostkeydns": "VerifyHostKeyDNS", "proxyusefdpass": "ProxyUseFdpass", "requiredrsasize": "RequiredRSASize",
    "revokedhostkeys": "RevokedHostKeys", "casignaturealgorithms": "CASignatureAlgorithms",
    "nohostauthenticationforlocalhost": "NoHostAuthenticationForLocalhost",
}  # fmt: skip
"""Options by their names in small letters, as people write them."""
_AS_DEFAULT = ("", "none")


def by_options(settings: Settings, defaults: Settings, *, has_ticket: bool) -> str | None:
    """Why OpenSSH has to go to a host, by its options; None where fabric can. `defaults`: what OpenSSH does for a host
    that no file says anything of; `has_ticket`: whether there is a Kerberos ticket to log in with."""
    for name in settings.values:
        mine, usual = settings.all(name), defaults.all(name)
        if mine == usual or name in _CARRIED or name in _NOTHING_HERE:
            continue
        if not usual and all(value.lower() in _AS_DEFAULT for value in mine):
            continue
        return f"{_NAMES.get(name, name)} is set, which only OpenSSH supports"
    if settings.first("gssapiauthentication") == "yes" and has_ticket:
        return "there is a Kerberos ticket to log in with"
    methods = settings.first("preferredauthentications")
    if methods and "publickey" not in methods.split(","):
        return "PreferredAuthentications is set without publickey"
    return None


def by_keys(identities: Sequence[Identity], agent: Iterable[tuple[str, bytes]], *, identities_only: bool) -> str | None:
    """Why OpenSSH has to go to a host, by the keys that it would offer; None where fabric can. `agent`: type and public
    half of each key that the agent holds."""
    held = {blob: type_ for type_, blob in agent}
    mine = {identity.blob for identity in identities}
    offered = [type_ for blob, type_ in held.items() if not identities_only or blob in mine]
    for type_ in [*offered, *(identity.type for identity in identities if identity.is_private)]:
        if type_.startswith("sk-"):
            return "a key needs a touch"
        if "-cert-" in type_:
            return "the agent holds a certificate"
        if type_ and not is_plain(type_):
            return f"a key is of the type {type_}"
    for identity in identities:
        if identity.certificate is not None:
            return f"the key {identity.path} has a certificate"
        if identity.is_private and not identity.type and not identity.is_locked and not identity.is_readable:
            return f"the key {identity.path} has an unusual format"
    return None


def as_jump(chain: str, config: Sequence[str], host: str, port: str) -> list[str]:
    """The command that leads through a chain of jump hosts, as a,b, to a port behind them: ssh, as it calls itself.
    `config`: its options that name a file of settings."""
    *before, last = chain.split(",")
    through = ["-J", ",".join(before)] if before else []
    target = last if last.startswith("ssh://") else f"ssh://{last}"
    inner = f"[{host}]:{port}"
    return ["ssh", *config, "-o", "BatchMode=yes", *through, "-W", inner, target]
