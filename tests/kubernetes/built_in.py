"""Validates Kubernetes' own kinds in the built overlays against the schemas of the oldest and the newest version."""

import copy
import sys

import kubernetes_validate
import yaml

VERSIONS = ["1.27", "1.37"]
# Validated by custom.mjs.
CUSTOM = {"ScaledObject", "ServiceMonitor"}


def refused(document, version):
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        return error.message
    return None


def main():
    validated, failed = 0, 0
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            documents = [document for document in yaml.safe_load_all(file) if document]
        assert documents, f"{path} is empty"
        for document in documents:
            kind = document["kind"]
            if kind in CUSTOM:
                continue
            for version in VERSIONS:
                message = refused(document, version)
                if message:
                    print(f"{path}: {kind} {document['metadata']['name']}: Kubernetes {version}: {message}")
                    failed += 1
                validated += 1
            # The schema must see what is wrong, or its silence says nothing.
            misspelled = copy.deepcopy(document)
            misspelled["spec"]["replicaz"] = 1
            assert refused(misspelled, VERSIONS[0]), f"the schema of {kind} lets an unknown field pass"
    print(f"{validated - failed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
