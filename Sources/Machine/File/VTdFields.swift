// The keys of VT-d units.

internal import IOMMU

extension VTdUnit.Configuration {
  static var fields: [Field<VTdUnit.Configuration>] {
    VTdCapabilities.fields.map { $0.within(\.capabilities) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number("context-cache-sets", \.contextCacheSets, 1...65536, "of 4 entries each"),
        .number("pasid-cache-sets", \.pasidCacheSets, 1...65536, "of 4 entries each"),
        .number(
          "paging-structure-entries", \.pagingStructureEntries, 0...4096,
          "of the cache of first-stage table entries; 0: none"),
        .flag(
          "read-only-erratum", \.hasReadOnlyErratum,
          "parents of nested tables have no read-only pages (ERRATA_772415_SPR17)"),
      ]
  }
}

extension VTdCapabilities {
  /// VT-d §11.4.2, §11.4.3
  fileprivate static var fields: [Field<VTdCapabilities>] {
    [
      .number(
        "address-width", \.maximumGuestAddressWidth, 39...57, "bits of a request's address (MGAW)"),
      .numbers(
        "second-stage-levels", \.secondStageLevels, of: [3, 4, 5],
        "levels of second-stage tables (SAGAW)"),
      .flag("pages-2m", \.has2MPages, "second-stage pages of 2 MiB (SSLPS)"),
      .flag("pages-1g", \.has1GPages, "second-stage pages of 1 GiB (SSLPS)"),
      .number("domain-bits", \.domainBits, 4...16, "log2 of the domains; even (ND)"),
      .number("fault-registers", \.faultRegisters, 1...256, "fault recording registers (NFR)"),
      .number(
        "maximum-address-mask", \.maximumAddressMask, 0...18,
        "log2 of the pages that one page-selective invalidation is for (MAMV)"),
      .flag("caching-mode", \.cachingMode, "not-present entries may be cached (CM)"),
      .flag("snoop-control", \.snoopControl, "tables can enforce coherent DMA (SC)"),
      .flag("pass-through", \.passThrough, "DMA without translation (PT)"),
      .number("pasid-bits", \.pasidBits, 0...20, "log2 of the PASIDs; 0: none (PASID, PSS)"),
      .flag(
        "second-stage-dirty", \.secondStageFlags,
        "accessed and dirty flags in second-stage tables (SSADS)"),
      .flag("second-stage", \.secondStage, "second-stage tables (SSTS)"),
      .flag("first-stage", \.firstStage, "first-stage tables (FSTS)"),
      .flag("five-levels", \.fiveLevelFirstStage, "first-stage tables of 5 levels (FS5LP)"),
      .flag("first-stage-1g", \.firstStage1GPages, "first-stage pages of 1 GiB (FS1GP)"),
      .flag("nested", \.nested, "guests' first-stage tables on second-stage tables (NEST)"),
      .flag("privileged-requests", \.privilegedRequests, "requests with privilege (SRS)"),
      .flag("extended-accessed", \.extendedAccessedFlag, "extended-accessed flags (EAFS)"),
      .flag("device-tlbs", \.deviceTLBs, "devices may translate for themselves (DT)"),
      .flag("page-requests", \.pageRequests, "devices may ask for pages (PRS, PDS)"),
    ]
  }
}
