"""Write the expected reports and frames anew: look at what has changed before it is committed."""

from tests.render import made_frames, made_reports

made_reports.write_all()
made_frames.write_all()
