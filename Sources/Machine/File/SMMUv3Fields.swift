// The keys of SMMUv3 units.

internal import IOMMU

extension SMMUv3Unit.Configuration {
  static var fields: [Field<SMMUv3Unit.Configuration>] {
    SMMUv3Capabilities.fields.map { $0.within(\.capabilities) }
      + VirtualQueueCapabilities.fields.map { $0.within(\.virtualQueues) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number("stream-cache-sets", \.streamCacheSets, 1...65536, "of 4 entries each"),
        .number("context-cache-sets", \.contextCacheSets, 1...65536, "of 4 entries each"),
      ]
  }
}

extension VirtualQueueCapabilities {
  /// Tegra241's CMDQV_PARAM
  fileprivate static var fields: [Field<VirtualQueueCapabilities>] {
    [
      .flag("cmdqv", \.isPresent, "Tegra241's CMDQ-Virtualization: queues for guests"),
      .number(
        "cmdqv-interface-bits", \.interfaceBits, 0...6,
        "log2 of its interfaces, of which one is the host's (NUM_VINTF_LOG2)"),
      .number(
        "cmdqv-queue-bits", \.queueBits, 0...7, "log2 of their queues together (NUM_VCMDQ_LOG2)"),
      .number(
        "cmdqv-stream-bits", \.streamBits, 0...4,
        "log2 of the streams of one interface (NUM_SID_PER_VM_LOG2)"),
      .number("cmdqv-version", \.version, 0...15, "CMDQV_VER"),
    ]
  }
}

extension SMMUv3Capabilities {
  /// IHI 0070 §6.3.1 to §6.3.8
  fileprivate static var fields: [Field<SMMUv3Capabilities>] {
    [
      .flag("stage-1", \.stage1, "stage 1 translation (IDR0.S1P)"),
      .flag("stage-2", \.stage2, "stage 2 translation (IDR0.S2P)"),
      .flag(
        "two-level-streams", \.twoLevelStreamTable, "stream tables of two levels (IDR0.ST_LEVEL)"),
      .flag("two-level-contexts", \.twoLevelContextTable, "CD tables of two levels (IDR0.CD2L)"),
      .flag("asid16", \.wideASIDs, "ASIDs of 16 bits instead of 8 (IDR0.ASID16)"),
      .flag("vmid16", \.wideVMIDs, "VMIDs of 16 bits instead of 8 (IDR0.VMID16)"),
      .number("stream-bits", \.streamBits, 16...32, "log2 of the streams (IDR1.SIDSIZE)"),
      .number("substream-bits", \.substreamBits, 0...20, "log2 of the PASIDs (IDR1.SSIDSIZE)"),
      .flag("access-flag-updates", \.updatesAccessFlag, "it sets access flags (IDR0.HTTU)"),
      .flag("dirty-updates", \.updatesDirtyState, "and dirty state (IDR0.HTTU)"),
      .flag("ats", \.ats, "devices may translate for themselves (IDR0.ATS)"),
      .choice(
        "stall-model", \.stallModel,
        ["configurable": .configurable, "terminate": .terminate, "stall": .stall],
        "what becomes of a transaction that faults (IDR0.STALL_MODEL)"),
      .number("maximum-stalls", \.maximumStalls, 1...65535, "that wait at a time (IDR5.STALL_MAX)"),
      .flag(
        "hierarchical-attribute-disable", \.hierarchicalAttributeDisable,
        "attributes of tables can be switched off (IDR3.HAD)"),
      .flag("force-write-back", \.forcedWriteBack, "stage 2 can force write-back (IDR3.FWB)"),
      .flag("range-invalidation", \.rangeInvalidation, "by range and level (IDR3.RIL)"),
      .numbers("granules", \.granules, of: [12, 14, 16], "log2 of page sizes (IDR5.GRAN4K, …)"),
      .number("command-queue-bits", \.commandQueueBits, 1...19, "log2 of its entries (IDR1.CMDQS)"),
      .number("event-queue-bits", \.eventQueueBits, 1...19, "log2 of its entries (IDR1.EVENTQS)"),
      .number(
        "output-address-bits", \.outputAddressBits, 32...48,
        "at least; the machine's memory may need more (IDR5.OAS)"),
      .number("implementation", \.implementation, 0...UInt32.max, "IIDR"),
    ]
  }
}
