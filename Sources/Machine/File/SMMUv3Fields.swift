// SPDX-License-Identifier: Apache-2.0

// The keys of a unit of kind smmuv3.

internal import IOMMU

extension SMMUv3Unit.Configuration {
  static var fields: [Field<SMMUv3Unit.Configuration>] {
    SMMUv3Capabilities.fields.map { $0.within(\.capabilities) }
      + VirtualQueueCapabilities.fields.map { $0.within(\.virtualQueues) }
      + IOTLBGeometry.fields.map { $0.within(\.iotlb) } + [
        .number(
          "stream-cache-sets", \.streamCacheSets, 1...65536,
          "sets of the STE cache, 4 entries each"),
        .number(
          "context-cache-sets", \.contextCacheSets, 1...65536,
          "sets of the CD cache, 4 entries each"),
      ]
  }
}

extension VirtualQueueCapabilities {
  /// CMDQV_PARAM of the Tegra241
  fileprivate static var fields: [Field<VirtualQueueCapabilities>] {
    [
      .flag("cmdqv", \.isPresent, "Tegra241's CMDQ-Virtualization: command queues for guests"),
      .number(
        "cmdqv-interface-bits", \.interfaceBits, 0...6,
        "log2 of the virtual interfaces; the host uses one of them (NUM_VINTF_LOG2)"),
      .number(
        "cmdqv-queue-bits", \.queueBits, 0...7,
        "log2 of the command queues of all virtual interfaces (NUM_VCMDQ_LOG2)"),
      .number(
        "cmdqv-stream-bits", \.streamBits, 0...4,
        "log2 of the streams of one virtual interface (NUM_SID_PER_VM_LOG2)"),
      .number("cmdqv-version", \.version, 0...15, "the version (CMDQV_VER)"),
    ]
  }
}

extension SMMUv3Capabilities {
  /// Arm IHI 0070 §6.3.1 to §6.3.8
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
      .flag(
        "access-flag-updates", \.updatesAccessFlag, "hardware updates of access flags (IDR0.HTTU)"),
      .flag("dirty-updates", \.updatesDirtyState, "hardware updates of dirty state (IDR0.HTTU)"),
      .flag("ats", \.ats, "device TLBs (IDR0.ATS)"),
      .choice(
        "stall-model", \.stallModel,
        ["configurable": .configurable, "terminate": .terminate, "stall": .stall],
        "what happens to a transaction that faults (IDR0.STALL_MODEL)"),
      .number(
        "maximum-stalls", \.maximumStalls, 1...65535,
        "stalled transactions at a time, at most (IDR5.STALL_MAX)"),
      .flag(
        "hierarchical-attribute-disable", \.hierarchicalAttributeDisable,
        "attributes of table descriptors can be disabled (IDR3.HAD)"),
      .flag("force-write-back", \.forcedWriteBack, "stage 2 can force write-back (IDR3.FWB)"),
      .flag(
        "range-invalidation", \.rangeInvalidation, "invalidation by range and level (IDR3.RIL)"),
      .numbers(
        "granules", \.granules, of: [12, 14, 16], "log2 of the granules (IDR5.GRAN4K, …)"),
      .number(
        "command-queue-bits", \.commandQueueBits, 7...19,
        "log2 of the command queue's entries; Linux requires more than 64 (IDR1.CMDQS)"),
      .number(
        "event-queue-bits", \.eventQueueBits, 1...19,
        "log2 of the event queue's entries (IDR1.EVENTQS)"),
      .number(
        "output-address-bits", \.outputAddressBits, 32...48,
        "output address size, at least; physical memory can need more (IDR5.OAS)"),
      .number(
        "implementation", \.implementation, 0...UInt32.max,
        "the implementation; Linux does without nesting on some that have errata (IIDR)"),
    ]
  }
}
