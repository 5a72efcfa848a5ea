// The ports in front of one unit: what commands of software reach when they are meant for functions, and
// where an invalidation waits for requests that are under way (see PortGate).
//
// The list is copied before it is gone through, so that ports can come and go meanwhile.

internal import Synchronization

final class UnitPorts: Sendable {
  private struct Port: Sendable {
    let gate: PortGate
    let deviceTLB: DeviceTLB
  }

  private let ports = Mutex<[Port]>([])

  func add(_ gate: PortGate, _ deviceTLB: DeviceTLB) {
    ports.withLock { $0.append(Port(gate: gate, deviceTLB: deviceTLB)) }
  }

  func remove(_ gate: PortGate) { ports.withLock { $0.removeAll { $0.gate === gate } } }

  /// Waits for requests that may hold what was just removed for the address space that gates know as
  /// `space` (nil: for any).
  func drain(space: UInt32?) {
    for port in ports.withLock({ $0 }) { port.gate.pass(space: space) }
  }

  /// Waits for requests that may hold what was just removed for `domain` (nil: for any).
  func drain(_ domain: DomainID?) { drain(space: domain.map { UInt32($0.rawValue) }) }

  /// Waits for the requests of some functions, whatever they hold.
  func drain(where isMeant: (RequesterID) -> Bool) {
    forEach(where: isMeant) { gate, _ in gate.pass(space: nil) }
  }

  /// Has functions forget translations of their own: no request still uses them when this returns.
  func invalidateDeviceTLBs(
    _ scope: DeviceTLBScope, pasid: PASID?, where isMeant: (RequesterID) -> Bool
  ) {
    forEach(where: isMeant) { gate, deviceTLB in
      deviceTLB.invalidate(scope, pasid: pasid)
      gate.pass(space: nil)
    }
  }

  func forEach(
    where isMeant: (RequesterID) -> Bool, _ body: (PortGate, DeviceTLB) -> Void
  ) {
    for port in ports.withLock({ $0 }) where isMeant(port.deviceTLB.requester) {
      body(port.gate, port.deviceTLB)
    }
  }
}
