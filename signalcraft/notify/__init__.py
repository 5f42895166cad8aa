"""People are told: happenings of groups become notifications, sent to receivers by routes."""
