"""The SQL statements of ``delivery``. All times are PostgreSQL's: processes of several machines compare them."""

from signalcraft.notify.news import SHOWN_BY_DIGEST, UNKNOWN

#: Lock the receiver, if it is free: no message in flight, and no pause to keep.
LOCK_RECEIVER = """
    SELECT key, broken_since, broken_since IS NOT NULL AND not_before <= now() AS may_retry FROM receiver_state
    WHERE receiver = %(receiver)s AND busy_until <= now() AND (not_before <= now() OR broken_since IS NOT NULL)
    FOR UPDATE SKIP LOCKED"""

#: Messages that a storm makes a digest of: all but edits of cards, mails that some have, tests, and trouble of our own.
#: What the digest of before will show is none, nor is what escalated or somebody acted on.
_OF_A_STORM = f"""n.state = 'pending' AND NOT n.is_test AND n.alert_group_id IS NOT NULL
    AND (n.mode = 'event' AND n.undelivered_to IS NULL OR n.mode = 'card' AND n.told_digest IS NULL
         AND n.urgency = 0 AND (n.covered_by IS NULL OR n.reason NOT IN {SHOWN_BY_DIGEST}))"""
_DIGESTIBLE = f"n.receiver = %(receiver)s AND n.due_at <= now() AND {_OF_A_STORM}"

#: What escalates or is acted on in great numbers is a storm as well.
DEMOTE_CROWD = """
    WITH urgent AS (
        SELECT n.id FROM notification n
        WHERE n.receiver = %(receiver)s AND n.due_at <= now() AND n.state = 'pending' AND n.mode = 'card'
          AND n.told_digest IS NULL AND n.urgency > 0)
    UPDATE notification SET urgency = 0
    WHERE id IN (SELECT id FROM urgent) AND (SELECT count(*) FROM urgent) > %(most)s"""
COUNT_DUE = f"""
    SELECT
        (SELECT count(*) FROM (SELECT FROM notification n WHERE {_DIGESTIBLE} LIMIT %(limit)s) AS due) AS due,
        (SELECT count(*) FROM (
            SELECT FROM notification n
            WHERE n.receiver = %(receiver)s AND n.sent_at > now() - %(period)s AND n.mode <> 'digest'
              AND n.covered_by IS NULL LIMIT 2 * %(limit)s) AS sent) AS sent,
        EXISTS (SELECT FROM notification n WHERE {_DIGESTIBLE} AND n.rank = 4) AS urgent,
        EXISTS (
            SELECT FROM notification n WHERE n.receiver = %(receiver)s AND n.mode = 'digest'
              AND (n.sent_at > now() - %(period)s OR n.state IN ('pending', 'sending'))) AS digest_is_recent"""

#: An attempt whose lease ended may have arrived, as one that is tried again.
_COLUMNS = """n.id, n.workspace_id, n.alert_group_id, n.route, n.mode, n.reason, n.title, n.is_test, n.revision,
    n.tries + (n.state = 'sending')::int AS tries, n.happened_at, n.due_at, n.external_id, n.external_channel,
    n.told_digest, n.covered_by, n.undelivered_to, n.urgency"""

#: A receiver with cards has one digest for a storm: it is edited while the storm lasts.
REOPEN_DIGEST = f"""
    UPDATE notification n SET state = 'pending', revision = n.revision + 1, due_at = now() WHERE n.id = (
        SELECT o.id FROM notification o
        WHERE o.receiver = %(receiver)s AND o.mode = 'digest' AND o.state = 'sent' AND o.told_status IN ('open', 'ack')
          AND o.sent_at > now() - 10 * %(period)s
        ORDER BY o.id DESC LIMIT 1)
    RETURNING {_COLUMNS}, NULL AS told_before"""
INSERT_DIGEST = f"""
    INSERT INTO notification AS n (receiver, route, mode, reason, rank, happened_at, due_at)
    VALUES (%(receiver)s, '', 'digest', 'digest', 4, now(), now())
    RETURNING {_COLUMNS}, NULL AS told_before"""
COVER_BY_DIGEST = f"UPDATE notification n SET state = 'covered', covered_by = %(id)s WHERE {_DIGESTIBLE}"

#: The status that the receiver was last told of the group. What a digest will tell is not told yet; what was given up
#: after it was tried may have arrived.
_TOLD_BEFORE = f"""(
    SELECT CASE o.state WHEN 'given_up' THEN '{UNKNOWN}' ELSE o.told_status END FROM notification o
    WHERE o.alert_group_id = n.alert_group_id AND o.receiver = n.receiver
      AND (o.told_status IS NOT NULL AND o.sent_at IS NOT NULL OR o.state = 'given_up' AND o.tries > 0)
    ORDER BY CASE o.state WHEN 'given_up' THEN o.due_at ELSE o.sent_at END DESC LIMIT 1)"""

#: The most urgent notification that is due, or whose lease ended without a record. Tests go first, then what a person
#: did. While a digest is recent, ``holds`` keeps back what the next one is for.
PICK = f"""
    SELECT {_COLUMNS}, {_TOLD_BEFORE} AS told_before FROM notification n
    WHERE (n.state = 'pending' AND n.due_at <= now() OR n.state = 'sending' AND n.lease_until <= now())
      AND n.receiver = %(receiver)s AND (n.is_test OR NOT %(only_tests)s)
      AND NOT (%(holds)s AND {_OF_A_STORM})
    ORDER BY n.is_test DESC, (n.urgency = 2) DESC, n.rank DESC, n.due_at, n.id LIMIT 1 FOR UPDATE OF n SKIP LOCKED"""

LEASE = """
    UPDATE notification SET state = 'sending', lease_until = now() + %(lease)s, tries = %(tries)s
    WHERE id = %(id)s RETURNING lease_until"""
#: The process that claims a notification after its lease ended decides about it: a later record changes nothing.
LOCK_LEASED = """
    SELECT FROM notification WHERE id = %(id)s AND state = 'sending' AND lease_until = %(lease_until)s FOR UPDATE"""
LEASE_RECEIVER = "UPDATE receiver_state SET busy_until = now() + %(lease)s WHERE receiver = %(receiver)s"

#: What says nothing new. A card that was sent before stays sent. An attempt whose lease ended may have posted the card:
#: its next message has to look for that.
COVER = """
    UPDATE notification SET lease_until = NULL, tries = %(tries)s,
        state = CASE WHEN revision <> %(revision)s THEN 'pending'
                     WHEN told_digest IS NULL THEN 'covered' ELSE 'sent' END
    WHERE id = %(id)s"""

#: What a digest tells is stored before it is sent: a group that changes meanwhile is told of afterwards.
TELL_COVERED = """
    UPDATE notification n SET told_status = CASE
        WHEN g.status = 'snoozed' AND g.snoozed_until <= now() THEN 'open' ELSE g.status END
    FROM alert_group g WHERE n.covered_by = %(id)s AND g.id = n.alert_group_id"""
_COVERED = """
    FROM (SELECT alert_group_id, min(told_status) AS told_status FROM notification WHERE covered_by = %(id)s
          GROUP BY alert_group_id) AS n
    JOIN alert_group g ON g.id = n.alert_group_id"""
COUNT_COVERED = f"""
    SELECT count(*) FILTER (WHERE n.told_status <> 'resolved') AS opened,
           count(*) FILTER (WHERE n.told_status = 'resolved') AS resolved,
           CASE WHEN bool_or(n.told_status = 'open') THEN 'open' WHEN bool_or(n.told_status <> 'resolved') THEN 'ack'
                ELSE 'resolved' END AS status,
           min(g.first_seen_at) AS since {_COVERED}"""
COVERED_GROUPS = f"""
    SELECT g.*, n.told_status AS status {_COVERED}
    ORDER BY n.told_status = 'resolved', array_position('{{critical,high,med,low,info}}'::text[], g.severity),
             g.count DESC, g.id LIMIT %(limit)s"""
RECORD_COVERED = """
    UPDATE notification SET sent_at = now() WHERE covered_by = %(id)s AND told_status IS NOT NULL AND sent_at IS NULL"""
#: The digest of a receiver with cards is sent again when its groups have become something else together.
UPDATE_DIGESTS = """
    UPDATE notification d SET state = 'pending', revision = d.revision + 1, due_at = now()
    WHERE d.mode = 'digest' AND d.state = 'sent' AND d.told_status IN ('open', 'ack') AND d.told_status <> (
        SELECT CASE WHEN bool_or(g.status = 'open' OR g.status = 'snoozed' AND g.snoozed_until <= now()) THEN 'open'
                    WHEN bool_or(g.status <> 'resolved') THEN 'ack' ELSE 'resolved' END
        FROM notification n JOIN alert_group g ON g.id = n.alert_group_id WHERE n.covered_by = d.id)"""

INSERT_ATTEMPT = """
    INSERT INTO notification_attempt (notification_id, outcome, code, http_status, took_ms, detail)
    VALUES (%(id)s, %(outcome)s, %(code)s, %(http_status)s, %(took_ms)s, %(detail)s)"""

#: A card that changed while it was being sent is due again. One that shows a snooze is looked at when that ends. What
#: is sent by itself is no longer the digest's.
RECORD_SENT = """
    UPDATE notification
    SET state = CASE WHEN revision = %(revision)s THEN 'sent' ELSE 'pending' END,
        lease_until = NULL, sent_at = now(), covered_by = NULL,
        undelivered_to = %(undelivered_to)s, tries = CASE WHEN %(undelivered_to)s IS NULL THEN 0 ELSE tries END,
        told_status = %(told_status)s, told_digest = %(told_digest)s,
        external_id = coalesce(%(external_id)s, external_id),
        external_channel = coalesce(%(external_channel)s, external_channel),
        remind_at = CASE WHEN %(told_status)s = 'open' THEN now() + %(remind_after)s
                         WHEN %(told_status)s = 'snoozed' AND mode = 'card' THEN %(snoozed_until)s::timestamptz END
    WHERE id = %(id)s"""
TRY_AGAIN = """
    UPDATE notification
    SET lease_until = NULL, tries = tries + %(tries)s,
        state = CASE WHEN created_at < now() - %(give_up_after)s AND (sent_at IS NULL OR undelivered_to IS NOT NULL)
                     THEN 'given_up' ELSE 'pending' END,
        due_at = CASE WHEN %(tries)s = 0 THEN due_at ELSE now() + %(delay)s END
    WHERE id = %(id)s"""
#: The receiver is back after more than a minute: what failed waits no longer, so that the most urgent goes next.
END_BACKOFF = """
    UPDATE notification n SET due_at = now() FROM receiver_state s
    WHERE n.receiver = %(receiver)s AND n.state = 'pending' AND n.tries > 0 AND n.due_at > now()
      AND s.receiver = n.receiver
      AND coalesce(s.last_sent_at, '-infinity') < least(s.last_error_at, now() - interval '1 minute')"""
#: A mail that some addresses took is sent, also if the others refuse it in the end.
GIVE_UP = """
    UPDATE notification SET state = CASE WHEN undelivered_to IS NULL THEN 'given_up' ELSE 'sent' END, lease_until = NULL
    WHERE id = %(id)s"""

RECEIVER_BROKEN = "SELECT broken_since FROM receiver_state WHERE receiver = %(receiver)s"
RELEASE_RECEIVER = """
    UPDATE receiver_state
    SET busy_until = '-infinity', not_before = now() + %(pause)s,
        broken_since = CASE WHEN %(broken)s THEN coalesce(broken_since, now()) WHEN %(sent)s THEN NULL
                            ELSE broken_since END,
        broken_code = CASE WHEN %(broken)s THEN %(code)s WHEN %(sent)s THEN NULL ELSE broken_code END,
        external_account = coalesce(%(account)s, external_account),
        external_channel = coalesce(%(channel)s, external_channel),
        last_sent_at = CASE WHEN %(sent)s THEN now() ELSE last_sent_at END,
        last_error_at = CASE WHEN %(failed)s THEN now() ELSE last_error_at END,
        last_error_code = CASE WHEN %(failed)s THEN %(code)s ELSE last_error_code END
    WHERE receiver = %(receiver)s"""
