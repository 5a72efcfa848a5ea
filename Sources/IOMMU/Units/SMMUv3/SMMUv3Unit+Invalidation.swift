internal import Synchronization

extension SMMUv3Unit {
  // MARK: Configuration (§4.3)

  func invalidate(streams: ClosedRange<UInt64>) {
    state.withLock { state in
      state.generation &+= 1
      state.streams.invalidate { stream, _ in streams.contains(stream) }
      state.contexts.invalidate { _, context in
        streams.contains(UInt64(context.stream.rawValue))
      }
    }
    ports.drain { streams.contains(UInt64($0.rawValue)) }
  }

  /// - Parameter descriptor: its index; nil: all of the stream's.
  func invalidateContexts(of stream: UInt32, descriptor: UInt32?) {
    state.withLock { state in
      state.generation &+= 1
      state.contexts.invalidate { _, context in
        guard UInt32(context.stream.rawValue) == stream, let index = context.descriptor else {
          return false
        }
        return descriptor == nil || index == descriptor
      }
    }
    ports.drain { UInt32($0.rawValue) == stream }
  }

  // MARK: Translations (§4.4)

  func invalidate(_ scope: TranslationScope) {
    state.withLock { state in
      state.generation &+= 1
      state.iotlb.removeAll { scope.covers($0) }
    }
    ports.drain(space: scope.gateSpace)
  }

  /// Nil: the parameters are illegal.
  func scope(
    of command: SMMUv3Command, _ operation: SMMUv3Command.Operation
  ) -> TranslationScope? {
    // Without stage 2 there are no VMIDs.
    let vmid = capabilities.stage2 ? command.vmid : 0
    switch operation {
    case .tlbiEverything: return .everything
    case .tlbiStage12: return .machine(vmid: vmid)
    case .tlbiAll: return .stage1(vmid: vmid)
    case .tlbiASID: return .space(vmid: vmid, asid: command.asid)
    case .tlbiAddress:
      return range(of: command, command.address).map {
        .addresses($0, vmid: vmid, asid: command.asid)
      }
    case .tlbiAddressAllASIDs:
      return range(of: command, command.address).map { .addressesOfAll($0, vmid: vmid) }
    case .tlbiStage2Address:
      return range(of: command, command.intermediateAddress).map {
        .intermediate($0, vmid: vmid)
      }
    default: return nil
    }
  }

  /// §4.4.1.1 Range-based invalidation and level hint.
  private func range(of command: SMMUv3Command, _ address: UInt64) -> InvalidatedRange? {
    let field = command.granuleField
    guard field != 0, capabilities.rangeInvalidation else {
      return InvalidatedRange(first: address, last: address | 0xfff)
    }
    let granule = Int(field) * 2 + 10
    // Without 52-bit addresses level 1 of 16 KiB tables has no leaves: as no hint.
    let level = granule == 14 && command.levelHint == 1 ? 0 : command.levelHint
    if command.rangeCount == 0, command.rangeScale == 0, level == 0 { return nil }
    let pages = (command.rangeCount + 1).multipliedReportingOverflow(by: 1 << command.rangeScale)
    let bytes = pages.partialValue.multipliedReportingOverflow(by: 1 << UInt64(granule))
    let (end, wraps) = address.addingReportingOverflow(bytes.partialValue &- 1)
    let last = pages.overflow || bytes.overflow || wraps ? UInt64.max : end
    return InvalidatedRange(first: address, last: last, granuleShift: granule, level: level)
  }
}
