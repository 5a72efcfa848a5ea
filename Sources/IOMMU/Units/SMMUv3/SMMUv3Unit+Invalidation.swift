// SPDX-License-Identifier: Apache-2.0

// The invalidation commands. Each invalidation waits for transactions that may still use what it
// removed.

internal import Synchronization

extension SMMUv3Unit {
  // MARK: Configuration (§4.3)

  /// Removes the cached configuration of the selected streams.
  func invalidate(streams: ClosedRange<StreamID>) {
    state.withLock { state in
      state.generation &+= 1
      state.streamTableEntries.invalidate { key, _ in
        streams.contains(StreamID(rawValue: UInt32(truncatingIfNeeded: key)))
      }
      state.addressSpaces.invalidate { _, space in streams.contains(StreamID(space.requester)) }
    }
    ports.drain { streams.contains(StreamID($0)) }
  }

  /// Removes cached context descriptors of a stream.
  /// - Parameter descriptor: the index of the descriptor; `nil` removes all of the stream.
  func invalidateContexts(of stream: StreamID, descriptor: UInt32?) {
    state.withLock { state in
      state.generation &+= 1
      state.addressSpaces.invalidate { _, space in
        guard StreamID(space.requester) == stream, let index = space.descriptor else {
          return false
        }
        return descriptor == nil || index == descriptor
      }
    }
    ports.drain { StreamID($0) == stream }
  }

  // MARK: Translations (§4.4)

  /// Removes the translations that `scope` covers from the TLB.
  func invalidate(_ scope: SMMUv3InvalidationScope) {
    state.withLock { state in
      state.generation &+= 1
      state.iotlb.removeAll { scope.covers($0) }
    }
    ports.drain(scope.inFlightKey)
  }

  /// Returns the scope of a TLB invalidation command, or `nil` when its parameters are illegal.
  func scope(
    of command: SMMUv3Command, _ opcode: SMMUv3Command.Opcode
  ) -> SMMUv3InvalidationScope? {
    // Without stage 2 there are no VMIDs.
    let vmid = capabilities.stage2 ? command.vmid : 0
    switch opcode {
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

  /// Returns the addresses of a TLB invalidation command (§4.4.1.1 Range-based invalidation and
  /// level hint), or `nil` when its parameters are illegal.
  private func range(of command: SMMUv3Command, _ address: UInt64) -> InvalidatedRange? {
    let field = command.granuleField
    guard field != 0, capabilities.rangeInvalidation else {
      return InvalidatedRange(first: address, last: address | 0xfff)
    }
    let granule = Int(field) * 2 + 10
    // Without 52-bit addresses, level 1 of 16 KiB tables has no leaves; the hint is then ignored.
    let level = granule == 14 && command.levelHint == 1 ? 0 : command.levelHint
    if command.rangeCount == 0, command.rangeScale == 0, level == 0 { return nil }
    let pages = (command.rangeCount + 1).multipliedReportingOverflow(by: 1 << command.rangeScale)
    let bytes = pages.partialValue.multipliedReportingOverflow(by: 1 << UInt64(granule))
    let (end, wraps) = address.addingReportingOverflow(bytes.partialValue &- 1)
    let last = pages.overflow || bytes.overflow || wraps ? UInt64.max : end
    return InvalidatedRange(first: address, last: last, granuleShift: granule, level: level)
  }
}
