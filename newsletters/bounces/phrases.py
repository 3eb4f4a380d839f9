"""What mail servers say when they refuse a mail, by what they mean: in lower case, with single spaces.

Every gap has a longest length, so that no text makes the search slow.
"""

import re


def any_of(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases))


BOX = (
    r"(?:user|account|recipient|addressee?|mail ?box|mailbox name|customer|subscriber|person|alias|user ?name"
    r"|userid)"
)
UNKNOWN = r"(?:unknown|undefined|no such|non-?existent|invalid|undeliverable|unrout[e]?able|unregistered)"
IS_NOT = (
    r"(?:(?:is |was |has |are )?(?:currently |been )?(?:an? )?(?:unknown|un(?:registered|recogni[sz]ed)"
    r"|non-?existent|invalid"
    r"|not (?:found|exist|known|valid|listed|registered|recogni[sz]ed|a (?:valid|known|registered))|deleted"
    r"|removed|closed"
    r"|terminated|no longer)|(?:does not|doesn.t|did not|didn.t|do not|don.t) exist|not exists?\b)"
)
HOST = r"(?:host|domain|server name|domain name|host ?name)"

# The sender is refused, whoever the reader is.
SENDER = any_of(
    r"sender(?:'s)? (?:email |mail |envelope )?(?:address |domain |host )?"
    r"(?:rejected|refused|denied|invalid|unknown|verif|not (?:exist|found|allowed)|does not|doesn.t)",
    r"(?:invalid|unknown|bad|unverified|unresolvable|unauthori[sz]ed) (?:sender|from address|helo)",
    r"sender (?:was|is) (?:rejected|not)|domain of (?:the )?sender|could not resolve sender|callout verification",
    r"my name was rejected|(?:helo|ehlo) (?:command |argument |name )?(?:rejected|refused|invalid)",
    r"sender .{0,60}(?:domain must (?:exist|resolve)|domain not found|cannot be resolved)",
    r"mail from:? ?<?\S{0,100}>? (?:rejected|denied|refused)|from address (?:is )?(?:rejected|not)",
    r"(?:find|resolve|look ?up|verify) your (?:host|domain|ip|reverse|sender)|your (?:host|domain) ?name",
    r"from: domain is invalid|valid from:|need fully-qualified|no a or mx for (?:sender|mail from)"
    r"|reverse (?:dns|lookup)|\bptr\b|\brdns\b",
)
# It is not sure.
MAYBE = any_of(
    r"(?:may|might) not exist|il se peut que|peut ne pas exister|podr[ií]a no existir|not found, try again",
    r"(?:name|host|dns|domain)\b.{0,25}(?:try again|temporar)|host lookup did not complete",
    r"temporary (?:lookup|dns|name|failure in name)",
    # Japanese carriers answer so to what a reader's own filter keeps out.
    r"(?:55\d|->) ?: ?:? ?user unknown",
)
# The mailbox is there and closed, or what delivers to it is broken.
CLOSED = any_of(
    rf"{BOX}(?:\(s\))?(?: account)?\b.{{0,50}} (?:is|has been|was) (?:currently |temporarily |administratively )?"
    r"(?:disabled|inactive|suspended|locked|frozen|blocked|on hold|deactivated|not active)",
    r"procmail:|maildrop:|couldn.t create|(?:command|program|mailer) (?:died|failed|exit)|local configuration error",
)
# Nobody spoke to the mailbox, or too much was sent at once.
UNREACHED = any_of(
    r"timed? ?-?out|connection (?:was )?(?:refused|lost|reset|closed|died|dropped)"
    r"|in (?:the )?queue (?:too long|for)|expired",
    r"(?:can ?not|could ?n.t|failed to|unable to|could not) (?:connect|establish|contact|reach|lock|open)"
    r"|lost connection",
    r"gr[ea]y ?-?list|try again|later\b|network (?:is )?unreachable|no route to host|loops? back|hop count"
    r"|too many hops",
    r"not responding|mail loop|all hosts have been failing|resources temporarily"
    r"|service (?:temporarily )?unavailable",
)
HURRIED = any_of(
    r"too many (?:recipients|messages|mails|e-?mails|connections|concurrent)|rate[ -]limit"
    r"|receiving mail (?:at a rate|too quickly)",
    r"throttl|has sent too|sending too (?:fast|much|many)",
)
FULL = any_of(
    rf"(?:{BOX}|mail ?folder|inbox|mail ?store|storage|disk|e-?mail account that you tried to reach).{{0,60}}? "
    r"(?:is |was )?(?:currently |temporarily )?(?:full\b|over (?:its |the )?(?:quota|limit|storage))",
    r"over ?-?quota|quota (?:is |has been )?(?:exceed|full|violation|limit|exhaust)|full mailbox"
    r"|mail(?:box)?[ _-]?full",
    r"exceed\w* .{0,30}(?:quota|storage|mail ?box|allotted|disk)|too much mail data|recipient storage full",
    r"(?:mail ?box|storage|disk|space|account).{0,30}(?:exceeded|quota|size limit)|out of (?:storage|space"
    r"|quota|disk)",
    r"not enough (?:storage|space|disk|room)|no (?:space|room) (?:left|in)|no space left",
    r"(?:insufficient|lack of).{0,20} (?:disk |storage )?(?:space|storage)\b|bo[iî]te .{0,30}pleine|一杯|容量",
)
DEAD = any_of(
    rf"\b{BOX}s?(?: (?:name|address|id|account))?(?: ?[:<(\[']?[^ ]{{0,120}}[>)\]']?[,:]?)? {IS_NOT}",
    rf"\b{UNKNOWN} (?:local |virtual |final |remote |e-?mail |destination )?"
    r"(?:user|recipient|account|address(?!, error_code)|mail ?box|local[- ]part|person|alias|name|destination"
    r"|customer"
    r"|final delivery userid)",
    rf"{BOX}[- ]?unknown|unknown[- ](?:user|recipient|address)|recipnotfound|resolver\.adr|addressee unknown",
    r"no (?:mail ?box|account|user|recipient|one|person|member)s? (?:here|by that|with that|found|named|at this"
    r"|matching|such)",
    r"no such (?:user|person|mailbox|address|recipient|account)|there is no (?:user|such|account|mailbox|one)",
    r"not (?:a |an )?(?:valid|our|active) (?:mail ?box|user|recipient|address|customer|account|member)",
    r"(?:doesn.t|does not|don.t|do not) have an? .{0,60}account|not a valid .{0,30}(?:recipient|address|mailbox"
    r"|user)",
    r"(?:account|address|mailbox)\b[^.]{0,40} (?:you tried to reach |we tried to reach )(?:does not|doesn.t"
    r"|could not|couldn.t|was not)",
    r"address(?:es)? (?:couldn.t|could not|wasn.t|was not|not) (?:be )?found|(?:couldn.t|could not|wasn.t"
    r"|was not) found (?:at|on|in)",
    r"unable to (?:look ?up the recipient|find (?:the )?(?:user|recipient|mailbox))|(?:user|name"
    r"|address) .{0,80}not (?:listed|found) in",
    r"(?:unknown|not known) (?:to|at|here)\b|(?:mailbox|address|account|user) (?:is )?(?:no longer|not any ?more)",
    r"no longer (?:in use|valid|available|exists?|on (?:the |this )?server|active|working|employed|with|a customer)",
    r"has (?:left (?:the|our)|moved)|(?:address|account) (?:has been )?(?:changed|discontinued)|user has moved",
    r"recipient (?:rejected|address rejected): (?:unknown|user|undeliverable|no such|address)"
    r"|delivery to non-existent",
    r"bad destination (?:mailbox|email)|mailbox unavailable or not local|unknown or illegal (?:alias|user)"
    r"|invalid id\b",
    r"\S@[^\s@]{1,255}+ (?:<\S{0,120}> )?(?:not found|doesn.t exist|does not exist|unknown)\b|bad address syntax"
    r"|no valid recipients?\b",
    r"(?:account|address|mailbox) (?:that you tried to reach )?(?:has been |is |was )?(?:deleted|closed|terminated)",
    # Exchange Online answers so where an address is in no directory.
    r"5\.4\.1.{0,80}recipient address rejected: access denied",
    r"utilisateur (?:inconnu|inexistant)|adresse .{0,60}(?:invalide|inconnue|inexistante)|n.existe pas"
    r"|destinataire inconnu",
    r"unbekannt|existiert nicht|no existe|non esiste|usuario desconocido",
    r"見つかりません|存在しません|リストにありません|宛先不明",
)
NOWHERE = any_of(
    rf"\b{HOST}(?: of recipient| part)?(?: ?[:<(\[']?[\w.-]{{0,120}}[>)\]']?)? {IS_NOT}",
    rf"\b(?:{UNKNOWN}|bad|malformed|illegal) (?:mail |destination |recipient |internet )?(?:host|domain)",
    r"nxdomain|name or service not known|null ?mx|no mx found|no (?:mx|mail) (?:record|host|exchanger"
    r"|server)s? (?:found|for|exist)",
    rf"{HOST}\b.{{0,80}}(?:does not|doesn.t) (?:accept|receive)|does not accept (?:any )?(?:mail|e-?mail)",
    r"(?:couldn.t|could not|cannot|can.t|unable to) find (?:any|a|the) (?:host|mail exchanger|mx)|not our domain",
    rf"{HOST} or domain name not found|domaine? (?:inconnu|inexistant)|is not an? (?:active"
    rf"|valid) (?:internet )?domain",
    r"(?:mx|dns|nameserver)(?: record| lookup)? (?:not found|failed: (?:no such|host not))|no such domain"
    r"|has no mail exchanger",
    r"\b5(?:21|56)[ -]5\.3\.2\b|\b5\.1\.10\b",
)
SIZE = any_of(
    r"(?:message|mail|e-?mail|file|attachment|header|body|size|data)\w*(?: size| length)?(?: is| was)? "
    r"(?:too (?:large|big|long)|exceed\w*|larger than)",
    r"too (?:large|big)\b|exceed\w* .{0,40}(?:size|length)|size limit|(?:maximum|max|allowed"
    r"|permitted) .{0,20}(?:message|mail|file) size",
)
PROOF = any_of(
    r"\bspf\b|\bdkim\b|\bdmarc\b|sender ?-?id\b|domain ?keys|unauthenticated|not authenticated|spoof",
    r"authentication (?:required|check|fail|result|level|is required)|(?:did not|didn.t|does not"
    r"|doesn.t) pass authentication",
    r"must issue a starttls|requires (?:tls|encrypt)|not authori[sz]ed to send",
)
REPUTATION = any_of(
    r"reputation|senderscore|sender score|low (?:trust|score)|suspicious (?:ip|due to|activity|traffic)|bad history",
    r"complaint rate|(?:user|too many) complaints|\btss\d|\bph0\d",
)
CONTENT = any_of(
    r"\bspam\b|spam(?:my|ming|assassin)|virus|malware|phish|unsolicited|\bube\b|\bjunk\b|dangerous|banned content",
    r"content (?:rejected|filter|not|is|policy|violat|restrict)|(?:message|mail|attachment) (?:content|contains"
    r"|looks like)",
    r"prohibited (?:content|attach|file)|suspicious (?:content|url|link|attach)|(?:url|link"
    r"|uri)s? .{0,30}(?:listed|block)",
    r"rfc ?-?(?:5322|2822|822)|malformed|header (?:is )?(?:missing|invalid|error|checks)|bulk (?:mail|e-?mail)",
    r"message (?:filtered|refused by filter|looks)|illegal attach|duplicate header",
)
BLOCKED = any_of(
    r"block(?:ed|ing|list)|black ?-?list|deny ?list|(?:dns|rhs)bl\b|\brbl\b|spamhaus|spamcop|sorbs|barracuda"
    r"|\bbanned\b",
    r"listed (?:in|at|by|on)\b|(?:access|permission|relay(?:ing)?) (?:was |is |has been )?(?:denied"
    r"|not permitted|not allowed)",
    r"client (?:host|ip|address)|open relay|insecure mail relay|dynamic (?:ip|address)|dial-?up|unable to relay",
    r"administrative(?:ly)? (?:prohibi|reject|den)|relay(?:ing)? (?:not|prohibited)|security polic",
    r"polic(?:y|ies) (?:reason|violation|restrict)|not on (?:the )?(?:safe|white|allow)|you are not",
    r"not (?:allowed|permitted|authori[sz]ed) (?:to |from |by )",
)
# Where nothing above was said and no code says more
DISMISSED = any_of(r"refused|rejected|polic(?:y|ies)|security|restrict|denied|prohibit|forbidden|not accept")
# A server that took the recipient and refuses the text does not speak of the recipient.
AFTER_DATA = any_of(r"in reply to (?:end of )?data", r">>> data", r"(?:after|following) (?:end of )?data\b")
VAGUE = any_of(r"user unknown|unknown user")
