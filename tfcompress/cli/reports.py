"""What a run writes about a compression."""

from tfcompress.files import write_text


def write(directory, plan, report, text=None):
    """Writes plan.yaml and report.{json,html,txt}, each whole or not at all.

    Args:
        directory: the `RunDirectory`.
        plan: the `Plan` that was carried out.
        report: the `Report`.
        text: of report.txt, that of the report if None.
    """
    plan.to_yaml(directory.file("plan.yaml"))
    report.to_json(directory.file("report.json"))
    report.to_html(directory.file("report.html"))
    write_text(directory.file("report.txt"), f"{text or report}\n")
