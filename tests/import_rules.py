"""A contract type for import-linter: some packages import only what is named, so that a new module is refused."""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class OnlyContract(Contract):
    """`importers` and what lies below them import nothing of the project but `imported` and what lies below those."""

    importers = fields.ListField(subfield=fields.ModuleField())
    imported = fields.ListField(subfield=fields.ModuleField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """List each import of anything else."""
        allowed = _trees(graph, [module.name for module in self.imported])
        broken = [
            f"{importer} imports {imported}"
            for importer in sorted(_trees(graph, [module.name for module in self.importers]))
            for imported in sorted(graph.find_modules_directly_imported_by(importer) - allowed)
        ]
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print a line for each import that isn't allowed."""
        for line in check.metadata["broken"]:
            output.print_error(line, bold=False)


def _trees(graph: ImportGraph, roots: list[str]) -> set[str]:
    return {name for root in roots for name in (root, *graph.find_descendants(root))}
