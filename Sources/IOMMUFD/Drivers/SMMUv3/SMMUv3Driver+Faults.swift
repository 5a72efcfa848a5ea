// SPDX-License-Identifier: Apache-2.0

// The arm-smmu-v3 driver's interrupt handler for the event queue (arm-smmu-v3:
// arm_smmu_evtq_thread()). The event of a stalled transaction goes to the receiver of page
// requests. An event that a guest's stage 1 has caused goes to an event queue of the guest's
// vIOMMU. The receiver of faults gets every fault record.

internal import CUAPI
package import IOMMU
internal import Synchronization
internal import SystemPackage

/// The receivers that iommufd has set.
final class SMMUv3EventSinks: Sendable {
  private struct State {
    var faults: FaultSink?
    var pageRequests: PageRequestSink?
  }

  private let state = Mutex(State())

  var faults: FaultSink? {
    get { state.withLock { $0.faults } }
    set { state.withLock { $0.faults = newValue } }
  }

  var pageRequests: PageRequestSink? {
    get { state.withLock { $0.pageRequests } }
    set { state.withLock { $0.pageRequests = newValue } }
  }
}

extension SMMUv3Driver {
  package func setFaultSink(_ sink: FaultSink?) { eventSinks.faults = sink }

  package func setPageRequestSink(_ sink: PageRequestSink?) { eventSinks.pageRequests = sink }

  /// Drains the event queue.
  /// - Parameter record: The fault that the unit has just recorded.
  func handleEvents(_ record: FaultRecord) {
    for event in unit.consumeEvents() { handle(event) }
    eventSinks.faults?(record)
  }

  /// arm-smmu-v3: arm_smmu_handle_event(), arm_vmaster_report_event()
  private func handle(_ event: SMMUv3EventRecord) {
    switch SMMUv3Event.Kind(rawValue: event.kind) {
    case .badStreamEntry, .streamDisabled, .badSubstreamID, .badContext, .translation,
      .addressSize, .access, .permission:
      break
    default:
      return
    }
    let stream = RequesterID(rawValue: UInt16(truncatingIfNeeded: event.stream.rawValue))
    if event.isStalled { return handleStall(event, of: stream) }
    guard !event.isStage2, let master = knownDevice(stream)?.virtualMaster else { return }
    var guestEvent = event
    guestEvent.stream = StreamID(rawValue: UInt32(truncatingIfNeeded: master.stream))
    let bytes = withUnsafeBytes(of: guestEvent.words) { Array($0) }
    do throws(Errno) {
      try master.viommu.host.report(bytes, type: IOMMU_VEVENTQ_TYPE_ARM_SMMUV3.rawValue)
    } catch {
      // The vIOMMU has no event queue of this type. The kernel prints such an event.
      return
    }
  }

  /// Reports a stalled transaction as a page request group with one page request. The event's STAG
  /// is the group number.
  private func handleStall(_ event: SMMUv3EventRecord, of stream: RequesterID) {
    var access: PageRequestAccess = event.isRead ? .read : .write
    if event.isInstruction { access.insert(.execute) }
    if event.isPrivileged { access.insert(.privileged) }
    let request = PageRequest(
      requester: stream, pasid: event.substream, group: UInt32(event.stallTag),
      address: event.address, access: access, isLast: true)
    guard let sink = eventSinks.pageRequests else {
      return respond(to: request.groupID, .invalid)
    }
    sink(request)
  }

  /// arm-smmu-v3: arm_smmu_page_response()
  package func respond(to group: PageRequestGroupID, _ response: PageResponse) {
    guard knownDevice(group.requester)?.properties.canStall == true else { return }
    let resumption: SMMUv3Command.ResumeResponse = response == .success ? .retry : .abort
    unit.submit([
      .resume(
        StreamID(group.requester), tag: UInt16(truncatingIfNeeded: group.group),
        resumption)
    ])
  }
}
